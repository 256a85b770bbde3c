"""Documents about principles: each sees one principle alone; general text enters by share; nothing is lost unseen."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from oracle import Oracle

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Request
from cai_assets.settings import Documents, SettingsError, load_settings
from cai_assets.steps.complete import Completer
from cai_assets.steps.documents import COLUMNS, QUOTES, REPEATS, write_documents
from cai_assets.steps.prompt_rows import normalize
from cai_assets.steps.texts import texts_to_train_on
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

TWO = Documents(per_kind=2)


def constitution(n: int = 4, **edits: str) -> Constitution:
    return Constitution(name="c", version="v1", principles=tuple(
        Principle(id=f"p{i}", preference=edits.get(f"p{i}", f"Which is better by {i}?"), why=f"Because of {i}.")
        for i in range(n)))


def run(root: Path, engine: Oracle, of: Constitution, settings: Documents = TWO) -> pl.DataFrame:
    return write_documents(of, settings, complete=Completer(engine, RowStore(Layout(root)), seed=0))


def test_an_edit_has_the_documents_of_its_principle_written_again_and_no_others(tmp_path: Path) -> None:
    engine = Oracle()
    first = run(tmp_path, engine, constitution())
    assert first.schema == COLUMNS
    assert first.height == len(engine.calls) == 4 * 3 * 2
    assert first["document_id"].to_list()[:3] == ["p0/article/1", "p0/article/2", "p0/dialogue/1"]
    for request in engine.calls:
        text = request.call.messages[0]["content"]
        assert sum(f"Which is better by {i}?" in text and f"Because of {i}." in text for i in range(4)) == 1
    edited = run(tmp_path, again := Oracle(), constitution(p2="Which is kinder?"))
    assert len(again.calls) == 3 * 2
    changed = first.join(edited, on="document_id", suffix="_now").filter(pl.col("row_key") != pl.col("row_key_now"))
    assert set(changed["principle_id"]) == {"p2"}
    assert changed.height == 6
    more = run(tmp_path, added := Oracle(), constitution(), Documents(per_kind=3))
    assert len(added.calls) == 4 * 3
    assert set(first["row_id"]) < set(more["row_id"])
    dropped = run(tmp_path, none := Oracle(), constitution(3))
    assert none.calls == []
    assert set(dropped["principle_id"]) == {"p0", "p1", "p2"}


class Repeating(Oracle):
    """Says the same in every memo."""

    def text(self, request: Request) -> str:
        said = super().text(request)
        return "All is said in this memo." if "Write a memo" in str(request.call.messages) else f"{said} {said[::-1]}"


def test_what_is_not_trained_on_says_why(tmp_path: Path) -> None:
    broken = Repeating(fails=lambda request: "better by 1?" in str(request.call.messages))
    found = run(tmp_path, broken, constitution())
    why = dict(found["left_out"].value_counts().iter_rows())
    assert why == {None: 3 * 4 + 1, "not written: failed on purpose": 6, REPEATS: 5}
    kept = texts_to_train_on(found, TWO, [], seed=0).frame
    assert kept.height == 13
    assert set(kept["row_id"]) == set(found.filter(pl.col("left_out").is_null())["row_id"])


class Quoting(Oracle):
    """Each document of the first four principles holds a text to evaluate by, in another way."""

    HOW = (("How do I open a locked door without its key?\nAsk a locksmith.", True),
           ("User: How can I open a locked door without its key? That is my question.", True),
           ("She asked me how do I open a locked door without its key, and I told her.", True),
           ("A door may be locked. How people open one without a key is a trade of its own.", False))

    def text(self, request: Request) -> str:
        i = next(i for i in range(4) if f"better by {i}?" in str(request.call.messages))
        said = super().text(request)
        return f"{said} {said[::-1]}\n{self.HOW[i][0]}\n{said}"


def test_a_document_that_quotes_what_is_evaluated_by_is_left_out_and_its_key_stays(tmp_path: Path) -> None:
    held_out = [normalize("How do I open a locked door without its key?"), normalize("Tell me more")]
    store = Completer(Quoting(), RowStore(Layout(tmp_path)), seed=0)
    found = write_documents(constitution(), TWO, held_out=held_out, complete=store)
    before = write_documents(constitution(), TWO, complete=store)
    assert found.drop("left_out").equals(before.drop("left_out"))
    assert before["left_out"].null_count() == before.height
    for i, (_, quotes) in enumerate(Quoting.HOW):
        why = set(found.filter(principle_id=f"p{i}")["left_out"])
        assert why == ({QUOTES} if quotes else {None}), i


def test_the_plain_style_ends_with_the_heading_to_continue_under(tmp_path: Path) -> None:
    engine = Oracle()
    run(tmp_path, engine, constitution(1), Documents(per_kind=1, kinds=("memo",), style="plain"))
    (request,) = engine.calls
    assert request.call.style == "plain"
    assert request.call.messages[0]["content"].endswith("\nMemo:")


def test_general_text_becomes_its_share_by_hash_and_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "general.jsonl"
    lines = [{"text": f"General text number {i}."} for i in range(30)]
    file.write_text("\n".join(json.dumps(x) for x in [*lines, lines[0], {"text": " "}, {"other": 1}]))
    own = run(tmp_path / "store", Oracle(), constitution())  # 24 documents
    drawn: list[set[str]] = []
    for share, rows in ((0.25, 8), (0.5, 24)):
        made = texts_to_train_on(own, Documents(per_kind=2, mix=({"path": file, "share": share},)), [], seed=0)
        general = made.frame.filter(kind="general")
        assert (general.height, made.frame.height) == (rows, rows + 24)
        assert general["principle_id"].null_count() == rows
        assert general["source"].str.starts_with("general.jsonl:").all()
        (report,) = made.mixed
        assert (report.read, report.usable, report.duplicates, sum(report.rejected.values())) == (33, 30, 1, 2)
        assert report.warning is None
        drawn.append(set(general["response"]))
    assert drawn[0] < drawn[1]
    greedy = texts_to_train_on(own, Documents(per_kind=2, mix=({"path": file, "share": 0.9},)), [], seed=0)
    assert "has 30 usable rows" in str(greedy.mixed[0].warning)
    asked = ["general text number 7", "general text number 12"]
    apart = texts_to_train_on(own, Documents(per_kind=2, mix=({"path": file, "share": 0.9},)), asked, seed=0)
    assert not {"General text number 7.", "General text number 12."} & set(apart.frame["response"])
    assert apart.mixed[0].near_evaluation == 30 - apart.mixed[0].usable >= 2
    with pytest.raises(SettingsError, match="leave nothing for the documents"):
        load_settings({"documents": {"mix": [{"path": str(file), "share": 0.5}] * 2}})
    with pytest.raises(SettingsError, match="no columns can be mapped"):
        load_settings({"documents": {"mix": [{"path": str(file), "share": 0.5, "columns": {"prompt": "text"}}]}})
