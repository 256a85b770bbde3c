"""The base of every settings group, and what several groups share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cai_assets.settings.columns import Columns, columns_field


def project_root() -> Path:
    """The folder that holds ``workspace.yaml``, at or above the working directory; else the working directory."""
    here = Path.cwd()
    return next((p for p in (here, *here.parents) if (p / "workspace.yaml").exists()), here)


InProject = Annotated[Path, AfterValidator(lambda path: project_root() / path.expanduser())]


class Group(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Group):
    """Rows of another file, mixed in until they are ``share`` of the whole. ``columns``: how its columns are called."""

    path: InProject
    share: float = Field(gt=0, lt=1)
    columns: Columns = columns_field()
