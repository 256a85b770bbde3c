"""Which files are read and in which form: every row comes through, and what does not is named."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from cai_assets.reading.faults import DataError, RowFault
from cai_assets.reading.files import Raw, RowReader

BOM = b"\xef\xbb\xbf"
TEXTS = ["What is a loft?", "Where is Lima, Peru?", 'Say "no" twice']
ROWS = [{"prompt": text} for text in TEXTS]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TABLE = b'prompt,n\nWhat is a loft?,1\n"Where is Lima, Peru?",2\n"Say ""no"" twice",3\n'
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:34c1\nsize 211058673\n"


def rows(*paths: Path) -> list[Raw]:
    return list(RowReader(paths))


def texts(*paths: Path) -> list[object]:
    return [raw.value["prompt"] for raw in rows(*paths) if isinstance(raw.value, dict)]


def faults(path: Path) -> dict[int, str]:
    return {raw.line: str(raw.value) for raw in rows(path) if isinstance(raw.value, RowFault)}


def written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table({"prompt": TEXTS, "image": [b"\xff"] * 3}), sink)
    return sink.getvalue().to_pybytes()


def arrow() -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"prompt": TEXTS})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


FORMS = {
    "a.jsonl": LINES, "a.ndjson": LINES, "a.JSONL": LINES, "a.txt": LINES, "rows": LINES,
    "a.json": json.dumps(ROWS, indent=1).encode(), "array.jsonl": json.dumps(ROWS).encode(),
    "bom.json": BOM + b"\n" + json.dumps(ROWS).encode(),
    "a.csv": TABLE, "a.tsv": TABLE.replace(b",", b"\t").replace(b"Lima\t", b"Lima,"),
    "crlf.csv": TABLE.replace(b"\n", b"\r\n"),
    "bom.csv": BOM + TABLE, "crlf.jsonl": LINES.replace(b"\n", b"\r\n"), "bom.jsonl": BOM + LINES,
    "joined.jsonl": BOM + LINES.replace(b"\n", b"\n" + BOM, 1), "no-last-end.jsonl": LINES.replace(b"\n", BOM, 1),
    "a.parquet": parquet(), "a.PQ": parquet(), "a.arrow": arrow(), "a.feather": arrow(),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True)}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    assert texts(written(tmp_path / name, FORMS[name])) == TEXTS


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.arrow"])
def test_every_form_is_read_compressed(tmp_path: Path, name: str, suffix: str) -> None:
    packed = PACKED[suffix](FORMS[name])
    assert texts(written(tmp_path / (name + suffix), packed)) == TEXTS
    assert texts(written(tmp_path / "folder" / (name + suffix.upper()), packed).parent) == TEXTS


def test_files_that_were_compressed_one_by_one_and_joined_are_read_whole(tmp_path: Path) -> None:
    for suffix in (".gz", ".zst"):
        pack = PACKED[suffix]
        first, rest = LINES.split(b"\n", 1)
        assert texts(written(tmp_path / f"a.jsonl{suffix}", pack(first + b"\n") + pack(rest))) == TEXTS


@pytest.mark.parametrize(("name", "data", "said"), [
    ("a.jsonl", LFS, "is a Git LFS pointer.*git lfs pull"),
    ("a.parquet", LFS, "is a Git LFS pointer.*git lfs pull"),
    ("a.jsonl", LINES.decode().encode("utf-16"), "looks like UTF-16"),
    ("a.csv", TABLE.decode().encode("utf-16-le"), "looks like UTF-16"),
    ("a.csv", TABLE.decode().encode("utf-16-be"), "looks like UTF-16"),
    ("a.jsonl", b"".join(json.dumps(row, indent=2).encode() + b"\n" for row in ROWS), "over several lines"),
    ("a.json", json.dumps({"data": ROWS}, indent=2).encode(), "over several lines"),
    ("a.json", json.dumps({"data": ROWS * 3000}, indent=2).encode(), "over several lines"),
    ("a.json", json.dumps(ROWS)[:-3].encode(), "begins like a JSON array and is none"),
    ("a.csv", b"PK\x03\x04 a workbook", "zip archive or a spreadsheet"),
    ("a.jsonl", b"\n<!DOCTYPE html><html>404</html>", "is a web page"),
    ("a.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9], "check that the file exists and is whole"),
    ("a.jsonl.zst", PACKED[".zst"](LINES)[:-3], "check that the file exists and is whole"),
    ("a.parquet", parquet()[:-20], "check that the file exists and is whole"),
    ("a.csv", b"prompt,prompt\na,b\n", "two columns are called 'prompt'"),
    ("a.pdf", b"%PDF-1.7", "cannot read '.pdf' files"),
])
def test_a_file_that_holds_no_rows_is_one_error_for_the_file(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    path = written(tmp_path / name, data)
    with pytest.raises(DataError, match=said) as error:
        rows(path)
    assert str(path) in str(error.value)


def test_each_file_of_a_folder_is_read_or_named(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for name, data in {"a.jsonl": LINES[:29], "b.json": b'[{"prompt": "b"}]', "C.CSV": b"prompt\nc\n",
                       "README.md": b"#", "old/d.jsonl.bak": LINES, "config.json": b'{\n "a": 1\n}', "empty.jsonl": b"",
                       "header.csv": b"prompt\n", "cache-1.arrow": arrow(), "state.json": b"{}", ".git/x.jsonl": LINES,
                       ".hidden.jsonl": LINES}.items():
        written(folder / name, data)
    reader = RowReader([folder])
    assert [raw.source for raw in reader] == ["set/C.CSV", "set/a.jsonl", "set/b.json"]
    assert reader.notes == [
        "not read in set: README.md, cache-1.arrow, old/d.jsonl.bak, 2 hidden",
        "not read: set/config.json, which is one JSON object and no list of rows",
        "no row in set/empty.jsonl", "no row in set/header.csv"]
    assert [raw.source for raw in reader] == ["set/C.CSV", "set/a.jsonl", "set/b.json"]
    assert len(reader.notes) == 4


def test_links_are_read_or_named(tmp_path: Path) -> None:
    written(tmp_path / "elsewhere/a.jsonl", LINES)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/file.jsonl").symlink_to(tmp_path / "elsewhere/a.jsonl")
    (tmp_path / "set/folder").symlink_to(tmp_path / "elsewhere")
    reader = RowReader([tmp_path / "set"])
    assert len(list(reader)) == 3
    assert reader.notes == ["not read in set: folder"]
    (tmp_path / "set/gone.jsonl").symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"gone\.jsonl"):
        list(reader)


def test_many_files_that_are_not_read_are_counted_after_the_first(tmp_path: Path) -> None:
    written(tmp_path / "set/a.jsonl", LINES)
    for i in range(40):
        written(tmp_path / f"set/{i:02d}.png", b"")
    reader = RowReader([tmp_path / "set"])
    assert len(list(reader)) == 3
    assert reader.notes[0].endswith("29.png, and 10 more")


@pytest.mark.parametrize(("data", "told"), [
    (b"a,b\n1,2\n1,2,3\n", {3: "more cells than columns (3 and 2)"}),
    (b"a,b\n1\n", {2: "fewer cells than columns: b missing"}),
    (b"a,b\n1,2,,\n", {}),
    (b"prompt\nHow do I fold a shirt, quickly?\n", {}),
    (b'a,b\n1,"never closed\n2,3\n4,5\n', {4: "not CSV: a quote is opened and never closed"}),
    (b'a,b\n1,"he said "hi" to me"\n2,3\n', {2: "not CSV"}),
    (b"a,b\n1,2\n" + BOM + b"a,b\n3,4\n", {3: "repeats the header"}),
    (b"a,b\n1," + b"x" * 1_000_001 + b"\n2,3\n", {2: "too long: 1,000,001 characters in column 'b'"}),
])
def test_a_table_whose_cells_do_not_fit_tells_the_row(tmp_path: Path, data: bytes, told: dict[int, str]) -> None:
    found = faults(written(tmp_path / "a.csv", data))
    assert found.keys() == told.keys()
    assert all(found[line].startswith(reason) for line, reason in told.items())


def test_a_prompt_with_commas_that_is_the_only_column_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", b"prompt\nHow do I fold a shirt, quickly?\nWhat is a sieve?\n")
    assert texts(path) == ["How do I fold a shirt, quickly?", "What is a sieve?"]


def test_a_cell_longer_than_pythons_limit_is_one_row(tmp_path: Path) -> None:
    assert [len(text) for text in texts(written(tmp_path / "a.csv", b"prompt\n" + b"x" * 200_000 + b"\nshort\n"))] == [
        200_000, 5]  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "split", "kind"), [
    ("test.jsonl", "evaluation", None), ("my-validation-set.jsonl.gz", "evaluation", None),
    ("harmless-base.jsonl", None, "red-team"), ("helpful_base.jsonl", None, "helpful"),
    ("harmless.jsonl", None, "helpful"),
    ("harmless-base/train.jsonl", None, "red-team"), ("helpful-rejection-sampled/part.jsonl", None, "helpful"),
    ("red-team-attempts/part.jsonl", None, "red-team"), ("test/part.jsonl", None, None),
    ("my-test-project/part.jsonl", None, None), ("train.jsonl", None, None),
])
def test_names_say_the_split_and_the_kind_of_a_file_that_is_given(
    tmp_path: Path, given: str, split: str | None, kind: str | None
) -> None:
    (raw,) = rows(written(tmp_path / given, b'{"prompt": "x"}'))
    assert (raw.split, raw.kind) == (split, kind)


def test_names_say_the_split_and_the_kind_of_files_in_a_folder(tmp_path: Path) -> None:
    for name in ("harmless-base/train.jsonl", "helpful-base/test.jsonl", "validation/helpful/part.jsonl"):
        written(tmp_path / "hh" / name, b'{"prompt": "x"}')
    assert {(r.source, r.split, r.kind) for r in rows(tmp_path / "hh")} == {
        ("hh/harmless-base/train.jsonl", "train", "red-team"), ("hh/helpful-base/test.jsonl", "evaluation", "helpful"),
        ("hh/validation/helpful/part.jsonl", "evaluation", "helpful")}
    assert {r.kind for r in rows(tmp_path / "hh" / "harmless-base")} == {"red-team"}


def test_folders_that_are_given_say_the_split_where_they_say_both(tmp_path: Path) -> None:
    train, test = (written(tmp_path / f"{name}/part.jsonl", b'{"prompt": "x"}') for name in ("train", "test"))
    assert [r.split for r in rows(train, test)] == ["train", "evaluation"]
    assert [r.split for r in rows(train.parent, test.parent)] == ["train", "evaluation"]
    assert [r.split for r in rows(test)] == [None]


def test_a_train_file_beside_a_test_file_is_all_for_training(tmp_path: Path) -> None:
    train, test = (written(tmp_path / f"{name}.jsonl", LINES) for name in ("train", "test"))
    assert {(r.source, r.split) for r in rows(train, test)} == {("train.jsonl", "train"), ("test.jsonl", "evaluation")}


def test_columns_of_bytes_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"prompt": ["x"], "image": [b"\xff"], "vector": [[0.5]], "parts": [["a"]]}).write_parquet(path)
    assert [raw.value for raw in rows(path)] == [{"prompt": "x", "parts": ["a"]}]


def test_a_number_that_is_no_text_stays_what_it_is(tmp_path: Path) -> None:
    values: list[Any] = [raw.value for raw in rows(written(tmp_path / "a.jsonl", b'{"prompt": 1}\n[1]\n3\n'))]
    assert values == [{"prompt": 1}, [1], 3]
