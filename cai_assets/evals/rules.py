"""Whether a text keeps a principle's ``check``, decided by the text alone.

Words are counted as everywhere here (``text.words``). The language is the most probable of all that ``lingua`` knows
(Stahl, github.com/pemistahl/lingua-rs: n-gram models, deterministic), an optional package; no other rule needs one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import polars as pl

from cai_assets.constitution.check import Check, Form
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.errors import CaiError
from cai_assets.evals.text import words

LONGEST = 20_000  # characters that are looked at
ITEM = re.compile(r"\s*(?:[-*•+]|\(?\d{1,3}[.)])\s+\S")
MARKED = re.compile(r"(?m)^\s*(?:#{1,6}\s|```|\|.*\|\s*$|(?:[-*•+]|\(?\d{1,3}[.)])\s+\S)")


class NoLanguages(CaiError, RuntimeError):
    """A check names a language, and nothing here can tell one. The message says what to do."""


def checked(principles: Sequence[Principle]) -> tuple[tuple[str, Check], ...]:
    """The principles with a check, by id, and their checks. Raise NoLanguages if one cannot be decided here."""
    found = tuple((p.id, p.check) for p in sorted(principles, key=lambda p: p.id) if p.check is not None)
    for principle, check in found:
        if check.language is not None:
            _known(check.language, principle)
    return found


def checks_of(constitution: Constitution) -> tuple[tuple[str, Check], ...]:
    """``checked`` of a whole constitution."""
    return checked(constitution.principles)


def keeps(check: Check, text: str) -> bool:
    """Whether a text is all that the check says; one without a word is nothing. Raise NoLanguages."""
    text = text[:LONGEST]
    n = len(words(text))
    return n > 0 and all((
        check.max_words is None or n <= check.max_words,
        check.min_words is None or n >= check.min_words,
        check.match is None or _found(check.match, text),
        check.no_match is None or not _found(check.no_match, text),
        check.format is None or FORMS[check.format](text.strip()),
        check.language is None or _language(text) == check.language))


def _found(pattern: str, text: str) -> bool:
    return bool(pl.Series([text]).str.contains(pattern)[0])


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_list(text: str) -> bool:
    return all(ITEM.match(line) for line in text.splitlines() if line.strip())


def _is_prose(text: str) -> bool:
    return not MARKED.search(text)


def _is_paragraph(text: str) -> bool:
    return _is_prose(text) and not re.search(r"\n\s*\n", text)


FORMS: dict[Form, Callable[[str], bool]] = {
    "json": _is_json, "list": _is_list, "prose": _is_prose, "paragraph": _is_paragraph}


def _known(language: str, principle: str) -> None:
    known = sorted(_code(one) for one in _lingua().Language.all())
    if language not in known:
        raise NoLanguages(f"principle {principle}: the language {language!r} cannot be told: choose one of "
                          + ", ".join(known))


def _language(text: str) -> str | None:
    found = _detector().detect_language_of(text)
    return _code(found) if found else None


def _code(language: Any) -> str:
    return str(language.iso_code_639_1.name).lower()


@cache
def _detector() -> Any:
    return _lingua().LanguageDetectorBuilder.from_all_languages().build()


def _lingua() -> Any:
    try:
        import lingua
    except ImportError:
        raise NoLanguages("a check names a language, and the package that tells languages is not installed: run "
                          "pip install 'cai-assets[language]', or remove the language from the check") from None
    return lingua
