"""Reads a constitution file, strictly (``reader.py`` says how)."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path

import yaml

from cai_assets.constitution.check import Check
from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.file_text import MAX_BYTES, MAX_SHOWN, FileError, Problem, read_bytes
from cai_assets.constitution.model import Constitution, FewShots, PreferenceShot, Principle, RevisionShot
from cai_assets.constitution.pattern import count_of
from cai_assets.constitution.reader import Form, Reader, short
from cai_assets.constitution.strict import parse_form

__all__ = ["MAX_BYTES", "MAX_SHOWN", "ConstitutionError", "Problem", "load_file", "parse"]

DECIMAL = re.compile(r"[-+]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)


class ConstitutionError(FileError):
    """A constitution that cannot be used. ``problems``: all that were found, in file order."""


def load_file(path: Path) -> Constitution:
    """Read a constitution file; its stem is the name. Raise ConstitutionError for whatever is wrong with it."""
    return parse(read_bytes(path, ConstitutionError), name=path.stem, where=str(path))


def parse(text: bytes | str, *, name: str, where: str = "<text>") -> Constitution:
    """Read a constitution from text. ``where`` is what problems call the file. Raise ConstitutionError.

    Of a constitution in another known form the only problem is that it is to be imported.
    """
    try:
        return parse_form(text, FORM, Constitution, where=where, error=ConstitutionError, given={"name": name},
                          check=_check_key)
    except ConstitutionError:
        from cai_assets.constitution.importing.importer import looks_like  # few files need it

        if form := looks_like(text, where):
            raise ConstitutionError([Problem(where, 1, 1, f"{form}; to make a constitution file of it, run: cai import "
                                             f"{shlex.quote(where)} --out constitutions/NAME.yaml")]) from None
        raise


def _check_key(constitution: Constitution, reader: Reader) -> None:
    try:
        partition_key(constitution)
    except ValueError as e:
        reader.report(("version",), str(e))


def _weight(event: yaml.ScalarEvent) -> tuple[float, str]:
    weight = float(event.value) if not event.style and DECIMAL.fullmatch(event.value) else math.nan
    fault = "" if 0 < weight <= 1000 else (
        f"weight {short(event.value)} must be a plain decimal number over 0 and up to 1000, such as 0.5")
    return weight, fault


def _gate(event: yaml.ScalarEvent) -> tuple[bool, str]:
    plain = not event.style and event.value in {"true", "false"}
    return event.value == "true", "" if plain else f"'gate' must be true or false, not {short(event.value)}"


FORM = Form(
    noun="constitution", needs="'version' and 'principles'", unique="principles",
    typed={"weight": _weight, "gate": _gate, **{name: count_of(name) for name in ("max_words", "min_words")}},
    quoted=frozenset({"version"}), given=frozenset({"name"}),
    models={
        (): Constitution, ("principles",): Principle, ("principles", "check"): Check, ("few_shots",): FewShots,
        ("few_shots", "revision"): RevisionShot, ("few_shots", "preference"): PreferenceShot,
    },
)
