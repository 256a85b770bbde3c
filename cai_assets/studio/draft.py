"""An edited constitution that nobody has saved: its file, what is wrong with it, what it would cost, and its saving.

Guarantee: a save replaces the file that was edited and no other text: of a file that changed meanwhile it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from cai_assets.constitution.cases import cases_path, load_cases
from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.edit import EditError, edited, texts
from cai_assets.constitution.file_text import FileError, Problem, Stop, decode, read_bytes
from cai_assets.constitution.files import constitution_file
from cai_assets.constitution.lint import Finding, lint, lint_cases
from cai_assets.constitution.load import ConstitutionError, parse
from cai_assets.constitution.model import Constitution
from cai_assets.errors import CaiError
from cai_assets.pipeline.project import Project
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.files import write_atomic

_saving = Lock()


class Edit(NamedTuple):
    """Another text of a principle or clause, or of the whole constitution if ``principle`` is empty."""

    principle: str
    field: str
    text: str


class NoSuchFile(CaiError, LookupError):
    """There is no constitution file of that name."""


class ChangedMeanwhile(CaiError):
    """The file is not as it was when its editing began."""


class Draft(NamedTuple):
    """``file``: its text with all edits. ``problems``: why it is no constitution yet."""

    path: Path
    file: str
    constitution: Constitution | None
    problems: Sequence[str]

    @property
    def version(self) -> str | None:
        return partition_key(self.constitution) if self.constitution else None

    @property
    def texts(self) -> Mapping[str, Mapping[str, str]]:
        """By id of a principle or clause, its texts in the file by field; '': those of the whole."""
        return texts(self.file) if self.constitution else {}

    def findings(self) -> Sequence[Finding]:
        """What ``cai lint`` advises of the constitution and its tests, but for how often principles are drawn."""
        if self.constitution is None:
            return []
        tests = cases_path(self.path.parent, self.path.stem)
        found = list(lint(self.constitution))
        try:
            return [*found, *(lint_cases(self.constitution, load_cases(tests, self.constitution))
                              if tests.exists() else ())]
        except FileError as e:
            return [Finding("error", None, str(e)), *found]


def find_file(project: Project, name: str) -> Path:
    """The file of a constitution. Raise NoSuchFile."""
    path = constitution_file(project.settings.constitutions, name)
    if Path(name).name != name or not path.is_file():
        raise NoSuchFile(f"there is no constitution file {name}.yaml in {project.settings.constitutions}")
    return path


def read(path: Path) -> tuple[str, str]:
    """The text of a file, and what names it as it is now. Raise ConstitutionError for one that is no text."""
    data = read_bytes(path, ConstitutionError)
    try:
        return decode(data, "constitution"), tagged_hash("file", data.hex())
    except Stop as e:
        raise ConstitutionError([Problem(str(path), *e.mark, e.message)]) from None


def draft(path: Path, file: str, edits: Sequence[Edit] = ()) -> Draft:
    """The file with some edits."""
    try:
        if edits:
            parse(file, name=path.stem, where=path.name)
            file = edited(file, {(e.principle, e.field): e.text for e in edits})
        return Draft(path, file, parse(file, name=path.stem, where=path.name), ())
    except ConstitutionError as e:
        return Draft(path, file, None, [str(p) for p in e.problems])
    except EditError as e:
        return Draft(path, file, None, [str(e)])


def save(project: Project, made: Draft, seen: str) -> str:
    """Write the file and register the version; return its key. ``seen``: of ``read`` when the editing began.

    Raise ChangedMeanwhile, CannotWrite, KeyTaken, or CaiError for a draft that is no constitution.
    """
    if made.constitution is None:
        raise CaiError("not saved: " + "; ".join(made.problems))
    with _saving:
        before, now = read(made.path)
        if now != seen:
            raise ChangedMeanwhile(f"not saved: {made.path.name} has changed since this page was opened; copy your "
                                   "text, and open the page again")
        text = made.file.replace("\r\n", "\n")  # browsers keep no line ends but their own
        write_atomic(made.path, (text.replace("\n", "\r\n") if "\r\n" in before else text).encode())
    return project.snapshots.register(made.constitution)
