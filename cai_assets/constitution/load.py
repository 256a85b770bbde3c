"""Reads a constitution file, strictly (``reader.py`` says how)."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path

import yaml

from cai_assets.constitution.check import Check
from cai_assets.constitution.clauses import BadClause, compiled
from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.file_text import MAX_BYTES, MAX_SHOWN, FileError, Problem, read_bytes
from cai_assets.constitution.model import (
    Article,
    Clause,
    Constitution,
    FewShots,
    PreferenceShot,
    Principle,
    RevisionShot,
)
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
        return parse_own(text, name=name, where=where)
    except ConstitutionError:
        from cai_assets.constitution.importing.importer import looks_like  # few files need it

        if form := looks_like(text, where):
            raise ConstitutionError([Problem(where, 1, 1, f"{form}; to make a constitution file of it, run: cai import "
                                             f"{shlex.quote(where)} --out constitutions/NAME.yaml")]) from None
        raise


def parse_own(text: bytes | str, *, name: str, where: str) -> Constitution:
    """Read a constitution file of this project. Raise ConstitutionError for anything else."""
    return compiled(parse_form(text, FORM, Constitution, where=where, error=ConstitutionError, given={"name": name},
                               check=_check))


def _check(constitution: Constitution, reader: Reader) -> None:
    _check_ids(constitution, reader)
    try:
        partition_key(compiled(constitution))
    except BadClause as e:
        reader.report(("articles", e.at[0], "clauses", e.at[1]), str(e))
    except ValueError as e:
        reader.report(("version",), str(e))


def _check_ids(constitution: Constitution, reader: Reader) -> None:
    """Each clause has an id of its own, and so has each article."""
    taken = {p.id for p in constitution.principles}
    for i, article in enumerate(constitution.articles):
        if article.id in {a.id for a in constitution.articles[:i]}:
            reader.report(("articles", i, "id"), f"{short(article.id)} is the id of an earlier article: choose another")
        for j, clause in enumerate(article.clauses):
            if clause.id in taken:
                reader.report(("articles", i, "clauses", j, "id"),
                              f"{short(clause.id)} is the id of an earlier clause or principle: choose another")
            taken.add(clause.id)
    if not constitution.principles and all(clause.status == "deferred" for clause in constitution.clauses):
        reader.report(("articles",), "every clause is deferred: no principle is left")


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
    typed={"weight": _weight, "gate": _gate,
           **{name: count_of(name) for name in ("max_words", "min_words", "priority")}},
    quoted=frozenset({"version"}), given=frozenset({"name"}),
    models={
        (): Constitution, ("principles",): Principle, ("principles", "check"): Check, ("few_shots",): FewShots,
        ("articles",): Article, ("articles", "clauses"): Clause, ("articles", "clauses", "check"): Check,
        ("few_shots", "revision"): RevisionShot, ("few_shots", "preference"): PreferenceShot,
    },
)
