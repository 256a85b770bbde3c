"""The settings as the launchpad knows them: typed and described, so that its editor completes them and a typo is an
error before the run starts.

Made from the models of the settings. What only the user's own hand may set is not there. Plain types: for a text,
Dagster's own resource classes would take ``{"env": NAME}`` from the config of a run, and read that variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import dagster as dg
from dagster._config.validate import validate_config
from pydantic import BaseModel

from cai_assets.settings import Settings
from cai_assets.settings.base import OWN_HAND
from cai_assets.settings.described import SERVER, one_line
from cai_assets.settings.models import Model

SCALARS: dict[Any, Any] = {bool: bool, int: int, float: float, str: str, Path: str}
OVERRIDES = "Any other settings, nested as 'cai settings' prints them."
BY_HAND = ("Settings that were typed at the command line and that Dagster does not keep, each with a digest of its "
           "value. Leave it as it is.")


def overrides() -> dg.Shape:
    """Every setting that a run may choose, except the scale, which is a field of its own."""
    return _group(Settings, "", without={"scale"})


def project_config() -> dict[str, dg.Field]:
    """The config of the resource ``project``."""
    scale = Settings.model_fields["scale"]
    return {
        "scale": dg.Field(_type(scale.annotation, "_scale"), is_required=False,
                          description=one_line(scale.description)),
        "overrides": dg.Field(overrides(), is_required=False, description=OVERRIDES),
        "by_hand": dg.Field(dict, is_required=False, description=BY_HAND),
    }


def fits(values: Mapping[str, Any]) -> bool:
    """Whether Dagster takes these overrides as they are written."""
    return bool(validate_config(overrides(), dict(values)).success)


def _group(model: type[BaseModel], name: str, without: set[str] | frozenset[str] = frozenset()) -> dg.Shape:
    fields = {key: dg.Field(_type(field.annotation, f"{name}_{key}"), is_required=field.is_required(),
                            description=one_line(field.description))
              for key, field in model.model_fields.items() if key not in without and OWN_HAND not in field.metadata}
    if model is Model:
        fields["server"] = dg.Field(dg.Noneable(str), is_required=False, description=SERVER)
    return dg.Shape(fields, description=one_line(model.__doc__))  # type: ignore[no-untyped-call]


def _type(kind: Any, name: str) -> Any:
    """Dagster's type for an annotation; ``name``: of an enumeration, which needs one of its own."""
    inner: Any = get_args(kind)
    match get_origin(kind):
        case origin if origin is Annotated:
            return _type(inner[0], name)
        case origin if origin in {Union, UnionType}:
            kinds = [part for part in inner if part is not type(None)]
            kind = _type(kinds[0], name) if len(kinds) == 1 else dg.Any  # Dagster has no union of two scalars
            return dg.Noneable(kind) if len(kinds) < len(inner) else kind
        case origin if origin is Literal:
            return dg.Enum(f"cai{name}", [dg.EnumValue(value) for value in inner])
        case origin if origin is tuple:
            return dg.Array(_type(inner[0], name))
        case origin if origin is dict:
            return dg.Map(str, _type(inner[1], name))  # type: ignore[no-untyped-call]
    return _plain(kind, name)


def _plain(kind: Any, name: str) -> Any:
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return SCALARS.get(kind, str)
    shape = _group(kind, name)
    return dg.ScalarUnion(scalar_type=str, non_scalar_schema=shape) if kind is Model else shape
