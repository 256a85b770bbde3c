"""The graph with its data root in a real object store: made and read there, moved there and back; a killed driver."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from histories import History, copy_instead_of_training
from typer.testing import CliRunner

from cai_assets.assets import CHECKPOINTS, ORDER, partition_of
from cai_assets.cli import app
from cai_assets.defs import launch
from cai_assets.engines.scripted import Scripted
from cai_assets.lineage.verify import verify
from cai_assets.plan.plan import make_plan
from cai_assets.store.copying import copy_root
from cai_assets.store.layout import Layout, open_storage
from cai_assets.store.row_store import RowStore
from cai_assets.store.upkeep import steps

TOLD = "canary-of-a-secret"


def keys(root: Path | str) -> set[str]:
    layout = Layout(root)
    return {key for step in steps(layout) for key in RowStore(layout).keys(step)["row_key"]}


def made(history: History, root: Any, version: str) -> int:
    """Calls and trainings of the newest records."""
    records = history.project(root).records
    newest = [records.latest(a, partition_of(a, version)) for a in ORDER]
    return sum(r.generated + (r.asset in CHECKPOINTS and not r.details["reused_checkpoint"]) for r in newest)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_a_graph_is_made_and_read_there_and_moved_back(
    history: History, objects_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: Any = objects_url  # ``History`` takes what can be a data root
    success, version = history.run(there)
    assert success
    assert made(history, there, version) > 0
    assert not verify(Layout(objects_url))

    monkeypatch.setenv("CAI_DATA_ROOT", objects_url)
    assert version in run("trace", f"rl_policy@{version}")
    assert version in run("status")
    assert json.loads(run("store", "stats", "--json"))
    assert "every row reads back" in run("store", "verify")
    assert "shards to" in run("store", "compact")
    assert "0 items" in run("store", "gc", "--apply")
    run("report", version)
    run("export", "dataset", version, "--out", str(tmp_path / "dataset"))
    run("export", "model", f"rl_policy@{version}", "--out", str(tmp_path / "model"))
    assert (tmp_path / "model" / "model.safetensors").exists()

    back = tmp_path / "back"
    assert "files (" in run("store", "copy", objects_url, str(back))
    monkeypatch.delenv("CAI_DATA_ROOT")
    assert not verify(Layout(back))
    assert history.digests(back, version) == history.digests(there, version)
    plan = make_plan(history.project(back), version)
    assert sum(line.generate_max for line in plan.lines) == 0
    assert not any(line.trains for line in plan.lines)
    assert keys(back) == keys(objects_url)
    for root in (back, tmp_path / "cache", tmp_path / "dataset", tmp_path / "model"):
        assert not [p for p in root.rglob("*") if p.is_file() and TOLD.encode() in p.read_bytes()]


def _killed(history: History, root: Any, after: int) -> None:
    launch._run = copy_instead_of_training
    serve, left = Scripted.run, [after]

    def dying(self: Scripted, requests: Any) -> Iterator[Any]:
        for result in serve(self, requests):
            yield result
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    Scripted.run = dying  # type: ignore[method-assign]
    history.run(root)


@pytest.mark.long
def test_after_a_killed_driver_only_the_rest_is_made_and_all_is_as_in_a_folder(
    history: History, objects_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = multiprocessing.get_context("spawn").Process(target=_killed, args=(history, objects_url, 60))
    driver.start()
    driver.join()
    assert driver.exitcode == -signal.SIGKILL
    before = keys(objects_url)
    there: Any = objects_url
    success, version = history.run(there)
    assert success
    after = keys(objects_url)
    assert before <= after
    assert not verify(Layout(objects_url))
    assert history.run(tmp_path / "here")[0]
    assert after == keys(tmp_path / "here")
    assert history.digests(there, version) == history.digests(tmp_path / "here", version)
    back = tmp_path / "back"
    copy_root(open_storage(objects_url), open_storage(back))
    assert history.run(back)[0]
    assert made(history, back, version) == 0
    assert keys(back) == after
