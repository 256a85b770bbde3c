"""Every benchmark, at its smallest size, prints what it is there for. Scripted engine, tiny model."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

import patience
import pytest
from tiny_models import tiny_model

REPOSITORY = Path(__file__).parents[1]
COMPARISONS = str(REPOSITORY / "cai_assets" / "data" / "judge_pairs.jsonl")
NUMBER = r"-?\d+(\.\d+)?"
COPIES = f"""
import runpy, sys
sys.path[:0] = [{str(REPOSITORY / "tests" / "defs")!r}, {str(REPOSITORY / "tests")!r}]
from histories import copy_instead_of_training
from cai_assets.defs import launch
launch._run = copy_instead_of_training
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Benchmark(NamedTuple):
    """``prints``: the ratio, or what is compared, as its last lines have it. ``copies``: instead of trainings."""

    prints: str
    arguments: tuple[str, ...] = ()
    copies: bool = False


BENCHMARKS = {
    "attribution": Benchmark(rf"^\| 20 \| 0.3 \| {NUMBER} \| {NUMBER} \|$"),
    "demo": Benchmark(rf"^ratio to model calls and training steps alone {NUMBER}: ", copies=True),
    "digests": Benchmark(rf"^ratio to plain reading {NUMBER} \(3 files, 6 MB"),
    "draws": Benchmark(rf"^edit 1 +chains +{NUMBER} +{NUMBER} +{NUMBER} +{NUMBER}$"),
    "driver": Benchmark(rf"^ratio to aiohttp alone, keys and store too: {NUMBER} of the calls/s, {NUMBER} of"),
    "edit": Benchmark(rf"critique request edited: .*; {NUMBER} and {NUMBER} of the full run", copies=True),
    "flow": Benchmark(rf"^ratio of flowing to barriers {NUMBER}, to the larger bound {NUMBER}\n.*\n"
                      rf"ratio of judging meanwhile to judging at the end {NUMBER}$"),
    "effect": Benchmark(rf"^one edit of the principle: .*; ratios to the first run {NUMBER} {NUMBER} {NUMBER}$",
                        copies=True),
    "gpu_check": Benchmark(r"(?s)^\| SFT, all weights \| 1B \| [\d,]+ .*resumes after a kill.*went on after step"),
    "injection": Benchmark(rf"beyond a harmless note {NUMBER} "),
    "load": Benchmark(rf"ratio {NUMBER} \(medians of 1 turns\)"),
    "paper_scale": Benchmark(
        rf"(?s)^one principle edited .* generated, .*^verify .* 0 problems$.*: {NUMBER} rows/s, {NUMBER} microseconds"),
    "peers": Benchmark(rf"(?s)^lesson's loop .* ratio to the product {NUMBER}.*^killed after \d+ calls: {NUMBER} "),
    "memory": Benchmark(rf"^ratio of planned to measured {NUMBER} to {NUMBER}$"),
    "plan": Benchmark(rf"^ratio to the completer pass +{NUMBER} plan, nothing changed"),
    "recipe": Benchmark(r"^ok +rl: grpo: \d+ generated, \d+ reused, 1 trained", ("--only", "rl: grpo"), copies=True),
    "reward": Benchmark(rf"(?s)^\d+ comparisons trained on.*\| {NUMBER}", (COMPARISONS,)),
    "stage": Benchmark(rf"^beside the engine {NUMBER} microseconds a row, .* ratio to the engine alone {NUMBER}$"),
    "startup": Benchmark(
        rf"^ratio to importing dagster: {NUMBER} help, .* {NUMBER} plan, {NUMBER} run, {NUMBER} nothing$", copies=True),
    "store": Benchmark(rf"(?s)^ratio to SQLite .* {NUMBER} append.*^ratio to Polars .* {NUMBER} anti-join"),
    "trace": Benchmark(rf"^trace --rows, all \(rows\) +{NUMBER} seconds"),
}
QUICK = {"attribution", "digests", "draws", "driver", "flow", "injection", "load"}  # ten seconds at most


def test_none_is_forgotten() -> None:
    scripts = {path.stem for path in (REPOSITORY / "benchmarks").glob("*.py")}
    assert set(BENCHMARKS) == scripts, "give it '--smallest' and say in BENCHMARKS what it prints"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("benchmarks")
    model = {"source": str(tiny_model(root / "tiny")), "backend": "scripted"}
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "CAI_DATA_ROOT": str(root / "data"),
            "CAI_MODELS__GENERATOR": json.dumps(model), "DAGSTER_HOME": str(root)}


@pytest.mark.parametrize("name", [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in sorted(BENCHMARKS)])
def test_at_its_smallest_it_prints_what_it_is_for(name: str, environment: dict[str, str]) -> None:
    benchmark = BENCHMARKS[name]
    arguments = [str(REPOSITORY / "benchmarks" / f"{name}.py"), "--smallest", *benchmark.arguments]
    program = ["-c", f"import sys; sys.argv = sys.argv[1:]\n{COPIES}"] if benchmark.copies else []
    done = patience.run([sys.executable, *program, *arguments], env=environment, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(benchmark.prints, done.stdout, re.MULTILINE), done.stdout


def test_the_check_of_a_gpu_says_in_one_line_what_it_needs(environment: dict[str, str]) -> None:
    hidden = {**environment, "CUDA_VISIBLE_DEVICES": ""}
    done = patience.run([sys.executable, str(REPOSITORY / "benchmarks" / "gpu_check.py")], env=hidden, cwd=REPOSITORY)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert done.stdout.startswith("make gpu-check needs an NVIDIA GPU with 80 GB or more, and torch, ")
    assert done.stdout.endswith(": here PyTorch sees no GPU\n")
