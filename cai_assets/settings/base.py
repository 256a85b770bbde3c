"""The base of every settings group, and what several groups share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cai_assets.errors import CaiError
from cai_assets.settings.columns import Columns, columns_field

STORES = ("s3", "gs", "az")


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


def storage_url(text: str) -> str:
    """The URL of a place in an object store, without a slash at its end. Raise ValueError, without its credentials."""
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query or parts.fragment:
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise ValueError(f"{place} was given with credentials or a query: name the place alone; credentials are read "
                         "from the environment, such as AWS_ACCESS_KEY_ID")
    if parts.scheme not in STORES or not parts.netloc or any(p in {"", ".", ".."} for p in _parts(parts.path)):
        raise ValueError(f"{text} names no place in an object store: give one such as s3://BUCKET/PREFIX (or "
                         f"{', '.join(f'{s}://' for s in STORES[1:])}), or a folder")
    return text.rstrip("/")


def _parts(path: str) -> list[str]:
    return [unquote(part) for part in path.strip("/").split("/")] if path.strip("/") else []


def _root(value: str | Path) -> str | Path:
    return storage_url(value) if isinstance(value, str) and "://" in value else _in_project(Path(value))


InProject = Annotated[Path, AfterValidator(_in_project)]
DataRoot = Annotated[str | Path, AfterValidator(_root)]
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
