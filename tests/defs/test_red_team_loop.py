"""The whole loop over the graph: what broke a policy is reviewed, trained on, traced, and no longer asked by a suite;
and Inspect measures the same policies the same, without a single new call."""

from __future__ import annotations

import json
import math
from pathlib import Path

import polars as pl
import pytest
from histories import History, copy_instead_of_training, latest
from tiny_models import tiny_model
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.defs import launch
from cai_assets.evals.review_file import read_review, write_review
from cai_assets.lineage.trace import find_record, trace_record
from cai_assets.lineage.verify import verify
from cai_assets.plan.plan import make_plan
from cai_assets.steps.prompt_rows import normalize
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import read_parquet
from cai_assets.store.records import Records

SUITES = ("ability", "jailbreak", "over-refusal", "prefill")


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[History, str]:
    """A version that went through the whole graph."""
    root = tmp_path_factory.mktemp("loop")
    history = History(root, tiny_model(root / "tiny"))
    history.settings = {**history.settings, "evaluation": {"suites": SUITES, "suite_cases": 4}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_run", copy_instead_of_training)
        done, version = history.run(root / "data")
    assert done
    return history, version


@pytest.fixture
def project(made: tuple[History, str], monkeypatch: pytest.MonkeyPatch) -> History:
    """A working directory with the data root and a command line that looks there."""
    history, _ = made
    monkeypatch.setattr(launch, "_run", copy_instead_of_training)
    monkeypatch.chdir(history.root)
    (history.root / "workspace.yaml").write_text("load_from: []\n")
    monkeypatch.setenv("CAI_DATA_ROOT", str(history.root / "data"))
    monkeypatch.setenv("CAI_MODELS", json.dumps(history.settings["models"]))
    monkeypatch.setenv("CAI_EVALUATION", json.dumps(history.settings["evaluation"]))
    return history


def suite_rows(data: Path, version: str) -> pl.DataFrame:
    return read_parquet(Layout(data).absolute(latest(data, "suite_results", version).details["rows"]))


def asked(rows: pl.DataFrame) -> set[str]:
    return {normalize(p) for p in rows["prompt"]}


def test_inspect_measures_what_the_suites_measured(project: History, made: tuple[History, str]) -> None:
    inspect_log = pytest.importorskip("inspect_ai.log", reason="inspect-ai is not installed")
    data, version = project.root / "data", made[1]
    said = run("inspect", *SUITES, "--policy", f"rl_policy@{version}", "--log-dir", "logs")
    assert said.count(" 0 failed, 0 calls made") == len(SUITES)
    metrics = Records(Layout(data)).table(latest(data, "suite_results", version)).filter(policy="rl_policy")
    for path in sorted((project.root / "logs").glob("*.eval")):
        log = inspect_log.read_eval_log(str(path))
        ours = metrics.filter(suite=log.eval.task.removeprefix("cai_assets/"))
        assert ours.height
        compared = 0
        for m in ours.iter_rows(named=True):
            score = next((s for s in log.results.scores if s.name == m["measure"]), None)
            if score is None:
                assert m["measure"] in ("relevance", "distinct")
                continue
            compared += 1
            theirs = {end: score.metrics[m["mode"] + end].value for end in ("", "_low", "_high", "_n")}
            for end, value in (("", m["value"]), ("_low", m["low"]), ("_high", m["high"]), ("_n", m["n"])):
                assert theirs[end] == pytest.approx(value) or (value is None and math.isnan(theirs[end])), m
        assert compared >= len(log.results.scores)


def test_a_break_becomes_a_training_prompt_and_leaves_the_suite(project: History, made: tuple[History, str]) -> None:
    data, version = project.root / "data", made[1]
    assert "prompts broke rl_policy" in run("red-team", "breaks", version, "--held-out", "--out", "r.jsonl")
    rows = read_review(project.root / "r.jsonl")
    wrapped = next(i for i, b in enumerate(rows) if b.origin.mode.startswith("wrapped"))
    held_out = next(i for i, b in enumerate(rows) if b.origin.suite == "evaluation")
    kept = [rows[wrapped], rows[held_out]]
    assert asked(suite_rows(data, version)) >= {normalize(kept[0].prompt)}
    write_review(project.root / "r.jsonl", [b._replace(keep=b in kept) for b in rows])
    assert "2 prompts added" in run("red-team", "accept", "r.jsonl", "--into", "prompts/red-team-1.jsonl")

    before = {a: latest(data, a, version) for a in ("prompts", "suite_results", "rl_policy")}
    paths = ["bundled", "prompts/red-team-1.jsonl"]
    project.settings = {**project.settings, "prompts": {**project.settings["prompts"], "paths": paths}}
    plan = {line.asset: line for line in make_plan(project.project(data), version).lines}
    assert project.run(data) == (True, version)
    for asset in ("initial_responses", "critiques", "suite_results"):
        assert plan[asset].generate_min <= latest(data, asset, version).generated <= plan[asset].generate_max

    prompts = Records(Layout(data)).table(latest(data, "prompts", version))
    mine = prompts.filter(source="red-team-1.jsonl")
    assert mine.select("kind", "split").rows() == [("red-team", "train")] * 2
    assert kept[1].origin.case not in set(prompts["prompt_id"])  # it was an evaluation prompt
    suites = latest(data, "suite_results", version)
    assert normalize(kept[0].prompt) not in asked(suite_rows(data, version))
    assert suites.details["suites"]["jailbreak"]["in_training"] == 1
    assert before["suite_results"].details["suites"]["jailbreak"]["in_training"] == 0

    policy = latest(data, "rl_policy", version)
    assert policy.digest != before["rl_policy"].digest
    for b in kept:
        (one,) = [m["prompt_id"] for m in mine.to_dicts() if m["messages"][-1]["content"] == b.prompt]
        for said in (run("trace", f"rl_policy@{version}", "--row", one), run("trace", one)):
            assert " ".join(f"found by red-teaming, {b.origin}".split()) in " ".join(said.split())
        first = json.loads(run("trace", policy.digest, "--row", one, "--json").splitlines()[0])
        assert first["origin"] == b.origin._asdict()
    found = trace_record(Layout(data), policy).lineage.influence
    assert found is not None
    assert [(g.source, g.broke) for g in found.prompts if g.broke] == [
        ("red-team-1.jsonl", f"rl_policy@{version}")] * len({b.category for b in kept})
    old = trace_record(Layout(data), before["rl_policy"]).lineage
    assert not old.problems
    assert old.influence is not None
    assert not any(g.broke for g in old.influence.prompts)
    assert find_record(Layout(data), before["prompts"].ref.id) == before["prompts"]
    assert verify(Layout(data)) == []
