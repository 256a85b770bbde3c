"""What every group of settings is, and what several of them share."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Group(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Group):
    """Rows of another file, mixed in until they are ``share`` of the whole."""

    path: Path
    share: float = Field(gt=0, lt=1)
