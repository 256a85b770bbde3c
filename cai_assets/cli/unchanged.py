"""Whether there is anything to make: nothing, where all is as the run that made it has left it.

What enters an asset only a run of it knows, so everything that could is compared: settings, code, files, the data root,
and Dagster's own history. A change anywhere, of another version too, and the run goes ahead: it reuses what it can.
"""

from __future__ import annotations

import json
import platform
import re
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cai_assets.defs.own_files import history_mark
from cai_assets.settings import BUILTIN_MODEL, Settings, project_root
from cai_assets.store.canonical import digest_lines, tagged_hash
from cai_assets.store.files import write_atomic
from cai_assets.store.layout import Layout
from cai_assets.store.records import Records, texts
from cai_assets.store.storage import Entry, PosixFolder

if TYPE_CHECKING:
    from cai_assets.cli.run import Made
    from cai_assets.pipeline.project import Project

PACKAGE = Path(__file__).parents[1]
WRITTEN = {"records", "rows", "tables", "checkpoints", "models", "damaged", "reports"}  # by runs, under the data root
PAGES, WORK = "reports", "work"  # made again by other commands too; and what nobody misses
KEPT = (WORK, "unchanged")
COMMIT = re.compile("[0-9a-f]{40}")


class State(NamedTuple):
    """Digests of all that a run may read and does not write, and of all that it may write; which records there are."""

    read: str
    written: str
    records: frozenset[str]


class Kept(NamedTuple):
    """What a run that succeeded leaves for the next one. ``failed_checks``: as dictionaries."""

    read: str
    written: str
    run_id: str
    checks: int
    failed_checks: list[dict[str, Any]]
    headline: list[list[str]]


def state_of(settings: Settings, layout: Layout) -> State | None:
    """How everything is now; None where that cannot be seen."""
    try:
        read, written, records = [*_around(settings)], [history_mark()], set[str]()
        for entry in layout.storage.list(""):
            top = entry.name.partition("/")[0]
            if top != WORK:
                (written if top in WRITTEN else read).append(entry.name if top == PAGES else _line(entry))
            if top == "records":
                records.add(entry.name)
    except (OSError, RuntimeError, sqlite3.Error, ValueError):  # RuntimeError: links in a circle, the home of nobody
        return None
    return State(digest_lines("read", read), digest_lines("written", written), frozenset(records))


def _around(settings: Settings) -> Iterator[str]:
    """Settings, code, this machine, and the files that settings name."""
    dumped = settings.model_dump(mode="json")
    yield json.dumps(dumped)
    yield f"{sys.version} {platform.node()} {project_root()} {Path.cwd()}"
    if any(map(_may_move, _models(dumped))):
        raise ValueError("a model of the Hub at no commit is what it is now")
    for folder in sys.path:
        if Path(folder).is_dir():
            yield from (e for e in PosixFolder(Path(folder)).folders("") if e.endswith((".dist-info", ".egg-info")))
    named = (folder / Path(text).expanduser() for text in texts(dumped) if text not in {"", dumped["data_root"]}
             for folder in dict.fromkeys((project_root(), Path.cwd())))
    for path in (PACKAGE, *_added(), *(path for path in named if path.exists())):
        yield str(path)
        yield from map(_line, _below(path))


def _models(value: Any) -> Iterator[Mapping[str, Any]]:
    """Whatever in the settings names a model."""
    if isinstance(value, dict):
        if value.keys() >= {"source", "revision"}:
            yield value
        for inner in value.values():
            yield from _models(inner)


def _may_move(model: Mapping[str, Any]) -> bool:
    """Whether a model is not here, and its name may mean another one tomorrow. Of a served one the name is all that a
    key has."""
    fixed = model["base_urls"] or model["source"] == BUILTIN_MODEL or COMMIT.fullmatch(model["revision"] or "")
    names = [*([] if fixed else [model["source"]]), *filter(None, [model["tokenizer"]])]
    return not all(Path(name).expanduser().exists() for name in names)


def _added() -> Iterator[Path]:
    """Where the code of packages is that add something to this one."""
    found = entry_points()
    for group in sorted(group for group in found.groups if group.startswith("cai_assets.")):
        for entry in found.select(group=group):
            if spec := find_spec(entry.module.partition(".")[0]):
                yield from map(Path, spec.submodule_search_locations or [str(spec.origin)])


def _below(path: Path) -> list[Entry]:
    """The file, or all files in the folder."""
    path = path.resolve()
    found = PosixFolder(path).list("") if path.is_dir() else PosixFolder(path.parent).list(path.name)
    return [entry for entry in found if "__pycache__" not in entry.name]


def _line(entry: Entry) -> str:
    return f"{entry.name} {entry.size} {entry.tag}"


def made_before(project: Project, version: str, selection: Sequence[str], now: State | None) -> Made | None:
    """What the run that made all this has left, as reused; None where anything has changed since, or there was none."""
    from cai_assets.cli.follow import Check
    from cai_assets.cli.run import Made
    from cai_assets.reports.summary import summary

    try:
        left = Kept(**json.loads(_file(project.layout, version, selection).read_bytes()))
    except (OSError, ValueError, TypeError):  # there is none, or one of another release
        return None
    if now is None or (left.read, left.written) != (now.read, now.written):
        return None
    lines = [line.reused_whole() for line in summary(project, version, left.run_id)]
    return Made(version, left.run_id, 0.0, lines, left.checks, [Check(**c) for c in left.failed_checks], None,
                left.headline, unchanged=True)


def keep(layout: Layout, selection: Sequence[str], made: Made, before: State | None, after: State | None) -> None:
    """Leave that, if nothing else has changed what the run read while it ran, and no row failed."""
    if before is None or after is None or before.read != after.read or any(line.failed for line in made.lines):
        return
    records = Records(layout)
    if all(records.named(name).run_id == made.run_id for name in after.records - before.records):
        left = Kept(after.read, after.written, made.run_id, made.checks, [c._asdict() for c in made.failed_checks],
                    [[*answer] for answer in made.headline])
        write_atomic(_file(layout, made.version, selection), json.dumps(left._asdict()).encode())


def _file(layout: Layout, version: str, selection: Sequence[str]) -> Path:
    name = tagged_hash("request", [version, sorted(selection)]).rpartition(":")[2]
    return layout.file(*KEPT, f"{name[:32]}.json")
