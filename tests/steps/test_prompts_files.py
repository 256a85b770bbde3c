"""Every supported form of file and folder gives the same prompts."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cai_assets.reading.faults import DataError
from cai_assets.steps.prompts import load_prompts

TEXTS = ["Name a bird of prey", "Why is grass green?", "Write a haiku about fog"]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def texts(*paths: Path, **more: Any) -> list[str]:
    frame = load_prompts(paths, max_chars=1000, **more).frame
    return [m[-1]["content"] for m in frame["messages"].to_list()]


@pytest.mark.parametrize("column", ["prompt", "question", "instruction", "text"])
def test_common_column_names(tmp_path: Path, column: str) -> None:
    assert texts(jsonl(tmp_path / "a.jsonl", [{column: t} for t in TEXTS])) == TEXTS
    assert texts(parquet(tmp_path / "a.parquet", **{column: TEXTS, "other": [[1.5]] * 3})) == TEXTS


def test_an_instruction_takes_its_input_along(tmp_path: Path) -> None:
    rows = [{"instruction": "Shorten this.", "input": "A long text."}, {"instruction": "Name a colour.", "input": ""}]
    assert texts(jsonl(tmp_path / "a.jsonl", rows)) == ["Shorten this.\n\nA long text.", "Name a colour."]


def test_conversations_in_both_dialects(tmp_path: Path) -> None:
    turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "Tell me a joke")]
    names = {"user": "human", "assistant": "gpt"}
    rows = [{"messages": [{"role": r, "content": c} for r, c in turns]},
            {"prompt": [{"role": r, "content": c} for r, c in turns]},
            {"conversations": [{"from": names[r], "value": c} for r, c in turns]}]
    loaded = load_prompts([jsonl(tmp_path / "a.jsonl", rows)], max_chars=1000)
    assert loaded.frame["messages"].to_list() == [[{"role": r, "content": c} for r, c in turns]]
    assert loaded.counts.duplicates == 2


def test_the_file_name_says_the_kind_unless_the_row_does(tmp_path: Path) -> None:
    rows = [{"prompt": TEXTS[0]}, {"prompt": TEXTS[1], "kind": "red_team"}]
    for name, kinds in {"my_harmless": ["helpful", "red-team"], "harmful-2": ["red-team"] * 2, "p": ["red-team"] * 2,
                        "helpful": ["helpful", "red-team"], "helpful-and-harmful": ["red-team"] * 2}.items():
        path = jsonl(tmp_path / f"{name}.jsonl", rows)
        assert load_prompts([path], max_chars=99).frame["kind"].to_list() == kinds
    assert load_prompts([tmp_path / "p.jsonl"], max_chars=99, kind="helpful").frame["kind"].to_list() == [
        "helpful", "red-team"]


def test_parquet_rows_have_the_same_checks(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", id=["a", "a", "c", "d"], prompt=["One", "Quite another", None, "x\0y"])
    loaded = load_prompts([path], max_chars=1000)
    assert loaded.frame["prompt_id"].to_list() == ["a"]
    assert loaded.rejects["line"].to_list() == [2, 3, 4]


def test_parquet_messages(tmp_path: Path) -> None:
    assert texts(parquet(tmp_path / "m.parquet", messages=[[{"role": "user", "content": t}] for t in TEXTS])) == TEXTS


def test_parquet_bytes_that_are_not_utf8_reject_one_row(tmp_path: Path) -> None:
    bad = pa.array([b"fine one", b"\xff\xfe", b"another two"]).cast(pa.binary()).view(pa.string())
    loaded = load_prompts([parquet(tmp_path / "a.parquet", prompt=bad)], max_chars=1000)
    assert loaded.frame["line"].to_list() == [1, 3]
    assert loaded.rejects.select("line", "reason").rows() == [(2, "not UTF-8")]


def test_parquet_without_a_prompt_column_rejects_each_row(tmp_path: Path) -> None:
    loaded = load_prompts([parquet(tmp_path / "a.parquet", chosen=TEXTS)], max_chars=1000)
    assert (loaded.counts.rejected, loaded.counts.read) == (3, 3)
    assert "needs one of prompt" in loaded.rejects["reason"][0]


def test_a_hub_folder_takes_splits_from_file_names(tmp_path: Path) -> None:
    folder = tmp_path / "test-prompts"
    parquet(folder / "data/train-00000-of-00001.parquet", prompt=[TEXTS[0]])
    parquet(folder / "data/test-00000-of-00001.parquet", prompt=[TEXTS[1]])
    jsonl(folder / "validation.jsonl", [{"prompt": TEXTS[2]}])
    jsonl(folder / ".cache/train.jsonl", [{"prompt": "hidden"}])
    (folder / "README.md").write_text("not data", encoding="utf-8")
    frame = load_prompts([folder], max_chars=1000).frame
    assert frame.select("source", "split").rows() == [
        ("test-prompts/data/test-00000-of-00001.parquet", "evaluation"),
        ("test-prompts/data/train-00000-of-00001.parquet", "train"),
        ("test-prompts/validation.jsonl", "evaluation")]


def arrow(path: Path, table: pa.Table, *, stream: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(str(path), table.schema) as sink:
        sink.write_table(table, max_chunksize=2)


@pytest.mark.parametrize("stream", [True, False])
def test_a_save_to_disk_folder(tmp_path: Path, stream: bool) -> None:
    arrow(tmp_path / "set/train/data-00000-of-00001.arrow", pa.table({"prompt": TEXTS, "n": [1, 2, 3]}), stream=stream)
    arrow(tmp_path / "set/test/data-00000-of-00001.arrow", pa.table({"prompt": ["Where is Lima?"]}), stream=stream)
    arrow(tmp_path / "set/train/cache-abc.arrow", pa.table({"prompt": ["stale"]}), stream=stream)
    (tmp_path / "set/dataset_dict.json").write_text("{}", encoding="utf-8")
    frame = load_prompts([tmp_path / "set"], max_chars=1000).frame
    assert frame["split"].to_list() == ["evaluation", "train", "train", "train"]
    assert frame["line"].to_list() == [1, 1, 2, 3]


def test_several_files_are_one_set(tmp_path: Path) -> None:
    first = jsonl(tmp_path / "a.jsonl", [{"id": "0", "prompt": TEXTS[0]}])
    second = parquet(tmp_path / "b.parquet", id=["0", "1"], prompt=[TEXTS[1], TEXTS[0]])
    loaded = load_prompts([first, second], max_chars=1000)
    assert loaded.frame["source"].to_list() == ["a.jsonl", "b.parquet"]
    assert (loaded.counts.duplicates, loaded.counts.rejected) == (1, 0)


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.parquet", "missing.arrow", "notes.md", "broken.parquet",
                                  "broken.arrow", "empty.arrow", "empty-folder"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.md").write_text("prompt\nhello\n", encoding="utf-8")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "broken.arrow").write_bytes(b"ARROW1 no")
    (tmp_path / "empty.arrow").touch()
    (tmp_path / "empty-folder").mkdir()
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        load_prompts([tmp_path / name], max_chars=1000)
