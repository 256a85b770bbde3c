"""One changed byte, or one missing file, of every kind of artifact is named."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pytest
from made_history import flipped, gone, made
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.lineage.targets import find_record
from cai_assets.lineage.verify import verify
from cai_assets.lineage.verify.checkpoints import checkpoint_problems
from cai_assets.lineage.verify.rows import named_calls
from cai_assets.lineage.verify.tables import tables
from cai_assets.store.layout import Layout


def latest(asset: str) -> Path:
    return made().layout.absolute(find_record(made().layout, f"{asset}@{made().versions[2]}").path)


def artifacts() -> Iterator[tuple[str, Path, int | None]]:
    """Kind, file, and which byte to change (the one in the middle if None)."""
    data, folder = made().data, latest("rl_policy")
    yield "table", latest("revisions"), None
    for kept in sorted((data / "tables").iterdir()):  # of every asset, the evaluation half's and side tables too
        yield f"table of {kept.name}", min(kept.glob("*.parquet")), 2 if "duplicates" in kept.name else None
    yield "weights", folder / "model.safetensors", None
    yield "lineage", folder / "lineage.json", None
    yield "lineage rows", folder / "lineage_rows.parquet", None
    yield "card", folder / "README.md", None
    yield "checkpoint record", folder / "record.json", (folder / "record.json").read_bytes().index(b'"seed"') + 9
    snapshot = data / "constitutions" / f"{made().versions[2]}.json"
    yield "snapshot", snapshot, snapshot.read_bytes().index(b'"critique"') + 20
    yield "snapshot's description", snapshot, snapshot.read_bytes().index(b'"description"') + 20
    yield "row store", min((data / "rows" / "respond").glob("*.parquet")), None
    record = data / "records" / f"{find_record(made().layout, f'critiques@{made().versions[2]}').ref.id}.json"
    yield "record's digest", record, record.read_bytes().index(b'"digest"') + 20
    yield "record's seconds", record, record.read_bytes().index(b'"seconds"') + 13


def test_an_untouched_history_verifies() -> None:
    assert verify(made().layout) == []
    kinds = {kind for kind, _, _ in artifacts()}
    assert {f"table of {name}" for name in ("suite_results", "suite_rows", "evaluation_rows", "report", "attribution",
                                            "constitution_tests", "round_quality", "training_rows")} <= kinds


@pytest.mark.fault("a changed byte or a missing file, named by 'cai verify'")
def test_one_changed_byte_of_any_artifact_is_named() -> None:
    with ExitStack() as changes:
        every = list({path: (kind, path, at) for kind, path, at in artifacts() if kind != "checkpoint record"}.values())
        for _, path, at in every:
            changes.enter_context(flipped(path, at))
        problems = verify(made().layout)
    named = {p.path for p in problems}
    assert [kind for kind, path, _ in every if str(path) not in named] == []
    assert all(p.todo for p in problems)
    (record,) = [(path, at) for kind, path, at in artifacts() if kind == "checkpoint record"]
    with flipped(*record):
        assert str(record[0]) in {p.path for p in verify(made().layout)}


def test_a_changed_value_in_sound_json_is_named() -> None:
    folder = made().data / "records"
    records = [folder / asset / made().versions[0] / "000001.json" for asset in ("evaluation", "sl_policy")]
    for path in [*records, latest("rl_policy") / "record.json"]:
        before = path.read_bytes()
        changed = {**json.loads(before), "rows": 12345}
        try:
            path.write_text(json.dumps(changed, indent=1))
            assert str(path) in {p.path for p in verify(made().layout)}
        finally:
            path.write_bytes(before)


def test_any_byte_of_a_table_counts(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    path = layout.file("tables", "sl_dataset", latest("sl_dataset").name)
    path.write_bytes(latest("sl_dataset").read_bytes())
    assert list(tables(layout, {})) == []
    for at in random.Random(0).sample(range(path.stat().st_size), 40):
        with flipped(path, at):
            assert [p.path for p in tables(layout, {})] == [str(path)], at


@pytest.mark.fault("a changed byte or a missing file, named by 'cai verify'")
def test_any_missing_artifact_is_named() -> None:
    every = {path: kind for kind, path, _ in artifacts() if kind != "checkpoint record"}
    # What is known by what another artifact says of it is missed while that one is there.
    apart = {"row store": "row store", "record's digest": "record", "record's seconds": "record"}
    for group in {"", *apart.values()}:
        away = [path for path, kind in every.items() if apart.get(kind, "") == group]
        with ExitStack() as changes:
            for path in away:
                changes.enter_context(gone(path))
            named = {Path(p.path) for p in verify(made().layout)}
        # A shard's name is known to nobody; its rows are.
        assert {path.parents[1] if group == "row store" else path for path in away} - named == set()
    with gone(latest("rl_policy") / "record.json"):
        assert str(latest("rl_policy") / "record.json") in {p.path for p in verify(made().layout)}


def test_a_file_that_nobody_listed_is_named() -> None:
    extra = latest("rl_policy") / "model.bin"
    extra.write_bytes(b"x")
    try:
        assert [p.path for p in checkpoint_problems(extra.parent)] == [str(extra)]
    finally:
        extra.unlink()


def test_the_command_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAI_DATA_ROOT", str(made().data))
    assert "every artifact matches its records" in CliRunner().invoke(app, ["verify"]).output
    with flipped(latest("revisions")):
        bad = CliRunner().invoke(app, ["verify", "--json"])
        assert bad.exit_code == 1
        assert [p["path"] for p in json.loads(bad.output)] == [str(latest("revisions"))]
        assert "What to do" in CliRunner().invoke(app, ["verify"]).output
    folder = latest("rl_policy")
    assert CliRunner().invoke(app, ["verify", str(folder)]).exit_code == 0
    with flipped(folder / "model.safetensors"):
        assert CliRunner().invoke(app, ["verify", str(folder)]).exit_code == 1


def test_a_call_counts_beside_a_list_of_calls_that_is_null(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    schema = {"row_key": pl.String, "row_key_rotations": pl.List(pl.String), "error": pl.String}
    rows = [("a", None, None), ("b", ["c", "d"], None), (None, [], None), ("failed", ["e"], "why"), ("", ["c"], None)]
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(path)
    assert sorted(named_calls(path)["row_key"]) == ["a", "b", "c", "d"]


def test_calls_of_rows_that_say_what_went_wrong_are_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = {"row_key": ["a", "b", "c", "d"], "judge_error": [None, "why", None, None],
            "response": ["text", "text", None, "text"], "outcome": ["passed", "passed", "passed", "ungraded"]}
    pl.DataFrame(rows).write_parquet(path)
    assert named_calls(path)["row_key"].to_list() == ["a"]
