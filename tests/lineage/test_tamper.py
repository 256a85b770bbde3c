"""``cai verify`` after one byte of one file changed, and after it went: named, with exit code 1. One kind at a time."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from exported import World, world
from made_history import flipped, gone
from typer.testing import CliRunner

from cai_assets.assets import GRAPH
from cai_assets.cli import app
from cai_assets.export.hub_dataset import export_dataset
from cai_assets.export.hub_model import export_model
from cai_assets.export.lineage import export_lineage
from cai_assets.store.sums import SUMS
from cai_assets.versions.archive import Archive

pytestmark = pytest.mark.long  # test_verify.py changes one of every kind at once

BESIDE = ("attribution_effects", "evaluation_rows", "judge_gate", "prompt_duplicates", "prompt_rejects", "round_rows",
          "round_texts", "suite_rows", "training_rows")
TABLES = (*(a.name for a in GRAPH if a.kind in {"table", "view"}), *BESIDE)
FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
         "README.md", "metrics.json", "lineage.json", "lineage_rows.parquet", "record.json")
RECORDS = ("prompts", "constitution", "critiques", "sl_policy", "reward_model", "rl_policy", "evaluation", "report",
           "suite_results", "attribution", "comparison", "constitution_tests", "round_quality")


def problems(*arguments: str) -> tuple[int, set[str]]:
    """Exit code of ``cai verify``, and the paths that it names."""
    done = CliRunner().invoke(app, ["verify", *arguments, "--json"], env={"CAI_DATA_ROOT": str(world().data)})
    found = json.loads(done.stdout)
    assert all(p["what"] and p["todo"] for p in found)
    return done.exit_code, {p["path"] for p in found}


def one(made: World, pattern: str) -> Path:
    return min(made.data.glob(pattern))


def a_value(path: Path, key: str) -> int:
    """Where a value begins in JSON, so that a changed byte leaves it sound."""
    return path.read_bytes().index(f'"{key}"'.encode()) + len(key) + 6


@pytest.fixture(scope="module", autouse=True)
def sound() -> None:
    made = world()
    archive = Archive(made.layout)
    archive.archive(made.version)
    archive.restore(made.version)
    assert problems() == (0, set())
    assert {p.name for p in (made.data / "tables").iterdir()} == set(TABLES)


@pytest.mark.parametrize("asset", TABLES)
def test_a_table(asset: str) -> None:
    path = one(world(), f"tables/{asset}/*.parquet")
    at = random.Random(asset).randrange(path.stat().st_size)
    with flipped(path, at):
        assert problems() == (1, {str(path)}), at
    with gone(path):
        code, named = problems()
    assert code == 1
    assert str(path) in named


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_checkpoint_here_and_elsewhere(name: str, tmp_path: Path) -> None:
    folder = world().subject("rl_policy").folder
    copy = shutil.copytree(folder, tmp_path / "copy")
    for path, arguments in ((folder / name, ()), (copy / name, (str(copy),))):
        with flipped(path, a_value(path, "seed") if name == "record.json" else None):
            code, named = problems(*arguments)
            assert code == 1
            assert str(path) in named
        with gone(path):
            code, named = problems(*arguments)
            assert code == 1
            assert str(path) in named


@pytest.mark.parametrize("asset", RECORDS)
def test_a_record(asset: str) -> None:
    path = one(world(), f"records/{asset}/*/000001.json")
    for key in ("digest", "created", "run_id"):
        with flipped(path, a_value(path, key)):
            code, named = problems()
            assert code == 1
            assert str(path) in named


@pytest.mark.parametrize("asset", ["prompts", "critiques", "sl_policy", "evaluation"])
def test_a_record_that_others_were_made_from_is_missed(asset: str) -> None:
    path = one(world(), f"records/{asset}/*/000001.json")
    with gone(path):
        code, named = problems()
    assert code == 1
    assert str(path) in named


SNAPSHOT, ORDER, MARKS = "constitutions/*.json", "constitutions-order.json", "constitutions-archived.json"


@pytest.mark.parametrize(("pattern", "find"), [
    (SNAPSHOT, lambda p: a_value(p, "critique")), (SNAPSHOT, lambda p: a_value(p, "description")),
    (ORDER, lambda p: p.read_bytes().index(world().version.encode()) + 2), (MARKS, lambda p: a_value(p, "key")),
    ("rows/critique/*.parquet", None), ("rows/label/*.parquet", None), ("reports/version/*.html", None),
    ("reports/versions.html", lambda p: p.stat().st_size - 9), ("reports/*/*.md", None)])
def test_a_snapshot_a_list_a_shard_or_a_page(pattern: str, find: Callable[[Path], int] | None) -> None:
    path = one(world(), pattern)
    with flipped(path, find and find(path)):
        code, named = problems()
        assert code == 1
        assert str(path) in named


@pytest.mark.parametrize("pattern", [SNAPSHOT, ORDER, "reports/version/*.html"])
def test_a_snapshot_a_list_or_a_page_is_missed(pattern: str) -> None:
    path = one(world(), pattern)
    with gone(path):
        code, named = problems()
    assert code == 1
    assert str(path) in named


@pytest.mark.parametrize("step", ["respond", "critique", "revision", "label", "judge"])
def test_calls_that_tables_name_are_missed(step: str) -> None:
    with gone(one(world(), f"rows/{step}/*.parquet")):
        assert problems() == (1, {str(world().data / "rows")})


def test_a_base_model_whose_size_and_time_stayed() -> None:
    path = world().history.model / "model.safetensors"
    before = path.stat()
    with flipped(path):
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert problems() == (1, {str(path)})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("kind", ["dataset", "model", "lineage"])
def test_every_file_of_an_export(kind: str, tmp_path: Path) -> None:
    out = tmp_path / kind
    if kind == "dataset":
        export_dataset(world().layout, world().version, out, held_out=0.1)
    elif kind == "model":
        export_model(world().subject(), out)
    else:
        export_lineage(world().subject(), out)
    assert problems(str(out)) == (0, set())
    for path in sorted(p for p in out.rglob("*") if p.is_file() and p.name != SUMS):
        for change in (flipped, gone):
            if change is flipped and not path.stat().st_size:
                continue
            with change(path):
                code, named = problems(str(out))
                assert code == 1
                assert str(path) in named
    (out / "more.txt").touch()
    assert problems(str(out)) == (1, {str(out / "more.txt")})


def test_a_folder_that_is_neither_is_refused(tmp_path: Path) -> None:
    assert problems(str(tmp_path)) == (1, {str(tmp_path / "record.json")})
