"""Resources of a run: the project, with the launchpad's overrides, and nothing that passes values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import dagster as dg

from cai_assets.defs.command_line import NO_RETRY
from cai_assets.defs.disk import prepare
from cai_assets.defs.launchpad import project_config
from cai_assets.defs.logger import told_to
from cai_assets.engines.number_format import number_format
from cai_assets.errors import CaiError
from cai_assets.pipeline.project import Project
from cai_assets.settings.by_hand import check_by_hand
from cai_assets.store import this_run

# What the user typed for runs of this process. A run that a page asks for has a process of its own, where it is empty.
_typed: ContextVar[Mapping[str, Any]] = ContextVar("typed", default=MappingProxyType({}))

_may: ContextVar[Mapping[str, bool]] = ContextVar("may", default=MappingProxyType({}))


@contextmanager
def replaying(*, asks: bool) -> Iterator[None]:
    """Runs in this block train nothing, and ask nothing unless ``asks``: what is stored is found by its key."""
    token = _may.set({"asks": asks, "trains": False})
    try:
        yield
    finally:
        _may.reset(token)


@contextmanager
def typed(overrides: Mapping[str, Any]) -> Iterator[None]:
    """Runs in this block may have these settings in their config, whatever they are: the command line's."""
    token = _typed.set(overrides)
    try:
        yield
    finally:
        _typed.reset(token)


@dg.resource(config_schema=project_config(), description="The project, with the settings of this run.")
def project_resource(context: dg.InitResourceContext) -> Iterator[Project]:
    """Opens the project for one run: its engines are given back when the run ends.

    An unknown setting is an error, and so is what only the user's own hand may set (``settings/run_config.py``). What
    cannot work now is not tried again by itself.
    """
    this_run.begin()
    try:
        project = _opened(context.resource_config)
        with told_to(context.log):
            prepare(project, context.run)
        _tag(context, project)
    except CaiError:
        _never_again(context)
        raise
    chosen = number_format(project.settings.engine.dtype)
    if context.log:
        context.log.info(f"number format {chosen.dtype}, because {chosen.reason}")
    try:
        with told_to(context.log):
            yield project
    finally:
        project.close()


def _opened(config: Mapping[str, Any]) -> Project:
    scale = {"scale": config["scale"]} if config.get("scale") else {}
    project = Project.open(_typed.get(), run_config={**config.get("overrides", {}), **scale}, **_may.get())
    check_by_hand(project.settings, config.get("by_hand", {}))
    return project


def _never_again(context: dg.InitResourceContext) -> None:
    if context.run is not None and context.instance is not None:
        context.instance.add_run_tags(context.run.run_id, NO_RETRY)


def _tag(context: dg.InitResourceContext, project: Project) -> None:
    """Let the run be found by what it makes, whoever started it."""
    if context.run is None or context.instance is None:
        return
    tags: dict[str, str] = {"cai/scale": project.settings.scale}
    version = context.run.tags.get("dagster/partition")
    if version is not None:
        tags |= {"cai/version": version}
        with suppress(CaiError):  # the step that reads it says what is wrong with it
            tags |= {"cai/constitution": project.snapshots.load(version).name}
    context.instance.add_run_tags(context.run.run_id, tags)


class NoValues(dg.IOManager):
    """Assets pass records and files. Dagster's own manager would pickle values, into a folder that a config names."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        raise TypeError(f"{context.name!r} is returned as a value; write a table or checkpoint, and return its result")

    def load_input(self, context: dg.InputContext) -> Any:
        raise TypeError(f"{context.name!r} is loaded as a value; read the table or checkpoint of the asset above")
