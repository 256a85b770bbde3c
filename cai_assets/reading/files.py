"""Which files a path gives, and every row in them as it stands.

Guarantee: each file that is given is read or is an error; each file of a folder is read, is an error, or is named in
``notes``. A folder is a Hugging Face data set or any other: files of rows at any depth, or what ``save_to_disk`` wrote.
"""

from __future__ import annotations

import csv
import lzma
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import NamedTuple

import pyarrow as pa

from cai_assets.reading.faults import DataError, NotRows, columns_of, printable
from cai_assets.reading.forms import SUFFIXES, rows_of, suffix_of
from cai_assets.reading.names import kind_of_name, said_around, said_by, split_of_name
from cai_assets.settings.columns import NO_MAP, Columns

NAMED = 30
# What the datasets library writes beside the rows of a data set.
BESIDE = {"dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json"}
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, csv.Error, pa.ArrowException)


@dataclass(frozen=True)
class Raw:
    """One row as found: its place, its value (or the fault met in reading it) and what the file name says about it.

    ``line`` counts from 1. ``split`` and ``kind`` are None where the names of files and folders say nothing.
    """

    source: str
    line: int
    value: object
    split: str | None = None
    kind: str | None = None


class DataFile(NamedTuple):
    """``given``: by its own path, and not as part of a folder. ``around``: the split that the folder around it says."""

    path: Path
    source: str
    split: str | None
    kind: str | None
    given: bool
    around: str | None


class RowReader:
    """Every row of some files and folders: files in the order given and those of a folder by name.

    ``known``: the columns that mean something to the reader of the rows, beside those that ``columns`` names.
    ``notes``, complete once the rows are: the files of a folder that were not read, files without any row, and the
    columns that mean nothing. A column that is named and that no row has is an error in the end.
    """

    def __init__(
        self, paths: Sequence[Path], known: Collection[str] | None = None, columns: Columns = NO_MAP
    ) -> None:
        self._paths, self._known, self._named = paths, known, columns.mapped
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Raw]:
        self.notes.clear()
        there = dict[str, None]()
        for file in data_files(self._paths, self.notes):
            for raw in self._rows(file):
                there.update(dict.fromkeys(raw.value) if isinstance(raw.value, dict) else {})
                yield raw
        self._check(there)
        if self._known is not None:
            self.notes.extend(_unread(there, {*self._known, *self._named.values()}))

    def _check(self, there: Mapping[str, None]) -> None:
        for field, name in self._named.items():
            if there and name not in there:
                where = ", ".join(map(str, self._paths))
                raise DataError(f"{where}: 'columns' says that '{field}' is in column '{name}', which no row has; "
                                f"{columns_of(there)}")

    def _rows(self, file: DataFile) -> Iterator[Raw]:
        raw = Raw(file.source, 0, None, file.split, file.kind)
        try:
            for line, value in rows_of(file.path):
                raw = replace(raw, line=line, value=value)
                yield raw
        except NotRows:
            if file.given or suffix_of(file.path) != ".json":
                raise
            self.notes.append(f"not read: {file.source}, which is one JSON object and no list of rows")
        except BROKEN as e:
            raise DataError(f"{file.path}: {e}; check that the file exists and is whole") from e
        else:
            if not raw.line:
                self.notes.append(f"no row in {file.source}")


def data_files(paths: Sequence[Path], notes: list[str]) -> list[DataFile]:
    """The files to read; ``notes`` gets those of folders that are not."""
    files = [file for path in paths for file in (_folder(path, notes) if path.is_dir() else [_given(path)])]
    if {f.around for f in files} >= {"train", "evaluation"}:  # else it may be anybody's folder 'dev' or 'test'
        files = [f._replace(split=f.split or f.around) for f in files]
    if not any(f.split == "evaluation" for f in files):
        # One file called 'train' says nothing: a part of it is held out by hash, like of any other.
        return [f._replace(split=None) if f.given else f for f in files]
    return files


def _given(path: Path) -> DataFile:
    return _file(path, PurePath(path.name), path.absolute().parent, path.name, given=True)


def _folder(folder: Path, notes: list[str]) -> list[DataFile]:
    # A link to nothing is an error where it is read; a link to a folder is not followed, so it is named.
    inside = {p: p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.is_symlink() or p.is_file()}
    hidden = {p for p, name in inside.items() if any(part.startswith(".") for part in name.parts)}
    read = {p for p, name in inside.items() if p not in hidden and _is_data(name) and not p.is_dir()}
    if not read:
        raise DataError(f"{folder}: no {', '.join(sorted(SUFFIXES))} file inside; give a data set folder that has some")
    others = [str(name) for p, name in inside.items() if p not in hidden and p not in read and name.name not in BESIDE]
    notes.extend(_not_read(folder, others, len(hidden)))
    return [_file(p, inside[p], folder.absolute(), f"{folder.name}/{inside[p].as_posix()}", given=False)
            for p in inside if p in read]


def _not_read(folder: Path, others: Sequence[str], hidden: int) -> Iterator[str]:
    if others or hidden:
        yield f"not read in {printable(folder.name)}: " + _listed([*others, *([f"{hidden} hidden"] if hidden else [])])


def _unread(there: Iterable[str], known: Collection[str]) -> Iterator[str]:
    if others := [name for name in there if name not in known]:
        yield "columns that are not read: " + _listed(others)


def _listed(names: Sequence[str]) -> str:
    more = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join([*(printable(name)[:60] for name in names[:NAMED]), *more])


def _file(path: Path, inside: PurePath, around: Path, source: str, *, given: bool) -> DataFile:
    kind = said_by(kind_of_name, inside) or said_around(kind_of_name, around)
    return DataFile(path, printable(source), said_by(split_of_name, inside), kind, given,
                    said_around(split_of_name, around))


def _is_data(inside: PurePath) -> bool:
    # 'cache-*.arrow' are results that the datasets library keeps beside a data set: not rows of it.
    return suffix_of(Path(inside)) in SUFFIXES and inside.name not in BESIDE and not inside.name.startswith("cache-")
