"""What the names of files and folders say about the rows in them: their split and their kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

SPLITS = {
    "train": "train", "training": "train", "test": "evaluation", "validation": "evaluation", "valid": "evaluation",
    "val": "evaluation", "dev": "evaluation", "eval": "evaluation", "evaluation": "evaluation",
}
KINDS = {"red": "red-team", "redteam": "red-team", "harmful": "red-team", "helpful": "helpful", "harmless": "helpful"}
# Words that stand beside those in the names of published folders: 'helpful-rejection-sampled', 'red-team-attempts'.
BESIDE = {"base", "online", "rejection", "sampled", "team", "attempts", "sft", "prefs"}

Meaning = Callable[[str], str | None]


def words(name: str) -> list[str]:
    """The lower-case words of a name: ``test_prefs-00000`` has test, prefs and 00000."""
    return [w for w in re.split(r"[^a-z0-9]+", name.casefold()) if w]


def split_of_name(name: str) -> str | None:
    """The split that a name says, or None if it says none or contradicts itself."""
    return _one_of(words(name), SPLITS)


def kind_of_name(name: str) -> str | None:
    """The kind that a name says. 'harmless-base' of hh-rlhf holds what people asked to break a model."""
    found = words(name)
    if "harmless" in found and "base" in found:
        return _one_of(["red", *(w for w in found if w != "harmless")], KINDS)
    return _one_of(found, KINDS)


def said_by(meaning: Meaning, inside: PurePath) -> str | None:
    """What the nearest name says: of the file, then of the folders inside the one that was given."""
    return next((said for name in reversed(inside.parts) if (said := meaning(name))), None)


def said_around(meaning: Meaning, folder: Path) -> str | None:
    """What the name of the folder that was given says, or of that around a file, if it says nothing else: 'test', not
    'my-test-project'."""
    known = all(w in SPLITS or w in KINDS or w in BESIDE for w in words(folder.name))
    return meaning(folder.name) if known else None


def _one_of(found: Iterable[str], labels: dict[str, str]) -> str | None:
    meant = {labels[w] for w in found if w in labels}
    return meant.pop() if len(meant) == 1 else None
