"""``cai feedback``: what it prints of a record, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, Records


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path))
    return Records(Layout(tmp_path))


def add(records: Records, **changes: object) -> None:
    frame = pl.DataFrame({"p_a": [0.9, 0.2, 0.6, None], "label": ["A", "B", "tie", "ungraded"]})
    digest, path = records.save_table("preference_pairs", frame)
    made = {"rows": 4, "generated": 8, "gpu_seconds": 4.0, "details": {"engine_seconds": 2.0}, **changes}
    records.add(Record(asset="preference_pairs", partition="v1", digest=digest,  # type: ignore[arg-type]
                       path=str(path.relative_to(records._layout.root)), **made))


def lines(*arguments: str) -> dict[str, dict[str, str]]:
    result = CliRunner().invoke(app, ["feedback", "v1", "--json", *arguments])
    assert result.exit_code == 0, result.output
    return {line["quantity"]: line for line in json.loads(result.output)}


def test_speed_and_cost_follow_from_the_record(records: Records) -> None:
    add(records)
    found = lines("--set", "price_per_gpu_hour=9", "--set", "price_per_human_hour=18")
    assert found["labels per second"]["ai"] == "2"  # 8 calls for 4 labels in 2 s
    assert "4 labels with 2 GPUs" in found["labels per second"]["basis"]
    assert found["cost of 1,000 labels"]["ai"] == "2.5"  # 500 s on 2 GPUs at 9 an hour each
    assert found["cost of 1,000 labels"]["people"] == "300"
    assert found["same label after a swap"]["ai"].startswith("0.667 [")
    assert found["ungraded"]["ai"].startswith("0.25 [")
    assert "without a judge gate" in found["agreement with people"]["basis"]


def test_labels_that_were_all_reused_say_nothing_of_speed(records: Records) -> None:
    add(records, generated=0, reused=8, gpu_seconds=0.0, details={"engine_seconds": 0.0})
    found = lines("--set", "price_per_gpu_hour=9")
    assert found["labels per second"]["ai"] == found["cost of 1,000 labels"]["ai"] == "not known"
    assert "no run has used the labeler" in found["labels per second"]["basis"]
    add(records, generated=4, reused=4)
    assert lines()["labels per second"]["ai"] == "1"  # 4 of 8 calls are half of the labels


def test_a_version_without_labels_is_refused_with_what_to_do(records: Records) -> None:
    result = CliRunner().invoke(app, ["feedback", "nothing"])
    assert result.exit_code == 2
    assert "cai materialize nothing" in " ".join(result.output.split())


def test_the_table_fits_for_people(records: Records) -> None:
    add(records)
    result = CliRunner().invoke(app, ["feedback", "v1"])
    assert result.exit_code == 0
    assert "labels per second" in " ".join(result.output.split())
