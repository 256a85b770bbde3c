"""The base of every settings group, and what several groups share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cai_assets.errors import CaiError
from cai_assets.settings.columns import Columns, columns_field


class SettingsError(CaiError, ValueError):
    """A setting is unknown or has an invalid value. The message says which and where it comes from."""


def project_root() -> Path:
    """The folder that holds ``workspace.yaml``, at or above the working directory; else the working directory."""
    here = Path.cwd()
    return next((p for p in (here, *here.parents) if (p / "workspace.yaml").exists()), here)


def _in_project(path: Path) -> Path:
    try:
        return project_root() / path.expanduser()
    except RuntimeError as e:  # the home of nobody
        raise ValueError(f"{path}: {e}") from None


InProject = Annotated[Path, AfterValidator(_in_project)]
OWN_HAND = "settings.yaml, the environment, the command line"  # in a field's metadata: no run's config may set it


class Group(BaseModel):
    """Immutable; an unknown key is an error. The text below a field is its description, wherever settings are shown."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Source(Group):
    """Rows of another file, mixed in."""

    path: InProject
    """File of rows, of nearly any form (docs/data.md)."""
    share: float = Field(gt=0, lt=1)
    """Share of the whole that these rows become."""
    columns: Columns = columns_field()
    """How the file's columns are called, where the usual names do not fit."""
