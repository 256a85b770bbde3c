"""Where Dagster finds the code of a run that the command line starts: what makes it a run of the UI's code location.

Without an origin a run stands under no job and in no timeline, and cannot be executed again from its page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dagster import DagsterError
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.remote_origin import (
    CodeLocationOrigin,
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_shared.check import CheckError
from yaml import YAMLError

from cai_assets.errors import CaiError
from cai_assets.settings import project_root

MODULE, LOCATION = "cai_assets.definitions", "cai_assets"


def job_origin(job: str) -> RemoteJobOrigin:
    """The job as the UI of this project knows it."""
    return RemoteJobOrigin(RemoteRepositoryOrigin(_location(project_root() / "workspace.yaml"),
                                                  SINGLETON_REPOSITORY_NAME), job)


def _location(workspace: Path) -> CodeLocationOrigin:
    """The location of ``workspace.yaml`` that is made of our definitions, else its first; ours where there is none."""
    origins = _origins(workspace) if workspace.is_file() else []
    ours = [o for o in origins if getattr(o.loadable_target_origin, "module_name", None) == MODULE]
    if found := [*ours, *origins]:
        return found[0]
    target = LoadableTargetOrigin(module_name=MODULE, working_directory=str(workspace.parent))
    return ManagedGrpcPythonEnvCodeLocationOrigin(target, LOCATION)


def _origins(workspace: Path) -> Sequence[CodeLocationOrigin]:
    try:
        return WorkspaceFileTarget([str(workspace)]).create_origins()
    except (DagsterError, CheckError, YAMLError):
        raise CaiError(f"{workspace} names no code location that Dagster can read: write `load_from:` and below it "
                       f"`  - python_module: {MODULE}`.") from None
