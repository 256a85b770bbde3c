"""Benchmarks that style cannot please: each shape, and planted judges that must pass and must fail."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judges import parts
from labellers import scripted, write_comparisons
from model_fixtures import prepared_model

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Call, Request
from cai_assets.evals.benchmarks import ALL, BenchmarkResult, Measured, faults, measure_benchmarks
from cai_assets.evals.gate import GateResult, measure_labeller, verdict
from cai_assets.pipeline.project import Project
from cai_assets.reports.gate import benchmark_table
from cai_assets.settings import Gate, Settings
from cai_assets.steps.benchmark_files import read_benchmark
from cai_assets.steps.complete import Completer
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

CONSTITUTION = Constitution(name="c", version="v1", principles=(Principle(id="p", preference="Prefer what is right."),))
Judge = Callable[[str], float]  # a text's score; the higher one is preferred


def quality(text: str) -> float:
    """The planted truth: a number in the text."""
    return float(text.partition("q=")[2].partition(" ")[0])


def by(score: Judge, call: Call) -> tuple[float, ...]:
    _, a, b = parts(call)
    p = 1 / (1 + math.exp(-max(-30.0, min(30.0, score(a) - score(b)))))
    return math.log(p), math.log1p(-p)


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def styled(i: int, q: int) -> list[str]:
    """The same answer plain, longer, and showy."""
    return [f"q={q} a{i}", f"q={q} a{i}" + " and so on" * 4, f"q={q} a{i}" + " **and** so on" * 9]


def files(root: Path, n: int = 40) -> tuple[Path, ...]:
    """One file of each shape, in the columns of the published sets."""
    return (
        lines(root / "rm-bench.jsonl", [
            {"id": i, "prompt": f"Ask {i}?", "chosen": styled(i, 5), "rejected": styled(i, 2),
             "domain": ("chat", "math")[i % 2]} for i in range(n)]),
        lines(root / "rewardbench-2.jsonl", [
            {"id": str(i), "prompt": f"Ask {i}?", "chosen": [f"q=5 a{i}"], "num_correct": 1, "subset": "Factuality",
             "rejected": [f"q={q} a{i}" + " word" * q for q in (1, 2, 3)]} for i in range(n)] + [
            {"id": f"t{i}", "prompt": f"Name one {i}.", "chosen": [f"q=5 a{i}", f"q=5.2 b{i}"], "subset": "Ties",
             "rejected": [f"q=1 c{i}", f"q=2 d{i} or so"]} for i in range(n)]),
        lines(root / "judgebench.jsonl", [
            {"pair_id": str(i), "question": f"Ask {i}?", "source": "livebench-math",
             "response_A": f"q={5 - 3 * (i % 2)} x{i}", "response_B": f"q={2 + 3 * (i % 2)} y{i}",
             "label": ("A>B", "B>A")[i % 2]} for i in range(n)]),
        lines(root / "ladder.jsonl", [
            {"prompt": f"Ask {i}?", "ladder": [f"q={q} a{i}" + " pad" * ((q * 7 + i) % 5) for q in (5, 4, 3, 2, 1)]}
            for i in range(n)]))


def measured(root: Path, score: Callable[[Call, Request], tuple[float, ...]]) -> dict[str, BenchmarkResult]:
    settings = Settings(gate=Gate(benchmarks=files(root)))
    complete = Completer(scripted(score), RowStore(Layout(root / "data")), seed=0)
    results, rows = measure_benchmarks(settings, CONSTITUTION, complete=complete)
    assert rows.height == 40 * 9 + 40 * 3 + 40 * 5 + 40 + 40 * 10
    return {r.name: r for r in results}


def of(result: BenchmarkResult, shape: str, category: str = ALL) -> Measured:
    return next(m for m in result.measured if (m.shape, m.category) == (shape, category))


def test_a_true_judge_passes_all_shapes_in_every_category(tmp_path: Path) -> None:
    results = measured(tmp_path, lambda call, _: by(quality, call))
    assert faults([*results.values()], Gate()) == []
    styles = of(results["rm-bench"], "styles")
    assert {s: x.value for s, x in styles.strata.items()} == {"easy": 1, "normal": 1, "hard": 1}
    assert styles.gap is not None
    assert styles.gap.value == 0
    assert [m.category for m in results["rm-bench"].measured] == [ALL, "chat", "math"]
    for name, shape in (("rewardbench-2", "best"), ("rewardbench-2", "ties"), ("judgebench", "pair")):
        right = of(results[name], shape).right
        assert right is not None
        assert (right.value, right.n) == (1, 40)
    assert of(results["judgebench"], "pair", "livebench-math").rows == 40
    rank = of(results["ladder"], "ladder").rank
    assert rank is not None
    assert rank.value == pytest.approx(1)


def test_a_judge_that_likes_length_passes_easy_and_fails_hard(tmp_path: Path) -> None:
    results = measured(tmp_path, lambda call, _: by(lambda text: len(text) / 10, call))
    styles = of(results["rm-bench"], "styles")
    assert styles.strata["easy"].value == 1
    assert styles.strata["hard"].value == 0
    assert styles.gap is not None
    assert styles.gap.value == 1
    why = " ".join(faults([results["rm-bench"]], Gate()))
    assert "it judges by looks" in why
    assert "where looks speak against the better answer it is right in 0 [" in why
    assert "best: it is right in 0 [" in " ".join(faults([results["rewardbench-2"]], Gate()))


def test_a_judge_that_tells_nothing_apart_and_one_that_loves_the_first_place_fail(tmp_path: Path) -> None:
    for name, score in (("even", lambda call, _: (math.log(0.5), math.log(0.5))),
                        ("first", lambda call, _: (math.log(0.9), math.log(0.1)))):
        root = tmp_path / name
        root.mkdir()
        results = measured(root, score)
        failed = {fault.partition(":")[0] for fault in faults([*results.values()], Gate())}
        assert failed == set(results), name
        rank = of(results["ladder"], "ladder").rank
        assert rank is not None
        assert rank.value == 0


def test_one_that_tells_right_ones_further_apart_than_right_from_wrong_fails_ties(tmp_path: Path) -> None:
    scores = {"a": 9.0, "b": 3.0, "c": 1.0, "d": 2.0}
    results = measured(tmp_path, lambda call, _: by(lambda text: scores.get(text.split()[1][0], quality(text)), call))
    ties = of(results["rewardbench-2"], "ties").right
    assert ties is not None
    assert ties.value == 0


def test_rows_that_fail_are_counted_and_never_scored(tmp_path: Path) -> None:
    def score(call: Call, _: Request) -> tuple[float, ...]:
        if "Ask 3?" in str(call.messages):
            raise ValueError("no letter can be read")
        return by(quality, call)

    styles = of(measured(tmp_path, score)["rm-bench"], "styles")
    assert (styles.rows, styles.ungraded) == (40, 1)
    assert styles.right is not None
    assert (styles.right.value, styles.right.n) == (1, 39)


def test_what_cannot_be_read_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    path = lines(tmp_path / "mixed.jsonl", [
        {"prompt": "a?", "chosen": ["x"], "rejected": ["x", "y"]}, {"prompt": "b?", "ladder": ["only one"]},
        {"prompt": "c?", "ladder": [f"rung {i}" for i in range(12)]},
        {"prompt": "d?", "chosen": "yes", "rejected": "no"}, {"prompt": "d?", "chosen": "yes", "rejected": "no"},
        {"prompt": "e?"}])
    found = read_benchmark(path, limit=10)
    assert [task.kind for task in found.tasks] == ["pair"]
    reasons = found.rejects["reason"].to_list()
    assert reasons[:4] == ["a right and a wrong answer are the same text", "'ladder' must be a list of 2 or more texts",
                           "66 comparisons in one row; the most are 40", "repeats an earlier row"]
    assert reasons[4].startswith("no comparison")


def test_the_gate_fails_by_a_benchmark_alone_and_shows_every_category(tmp_path: Path) -> None:
    """The human comparisons of this judge are all right; looks decide the rest."""
    path = write_comparisons(tmp_path / "people.jsonl", 100)

    def score(call: Call, _: Request) -> tuple[float, ...]:
        return by(lambda text: 20.0 * ("good" in text) + len(text) / 10, call)

    settings = Settings(gate=Gate(path=path, pairs=100, benchmarks=files(tmp_path)))
    complete = Completer(scripted(score), RowStore(Layout(tmp_path / "data")), seed=0)
    result, _ = measure_labeller(settings, CONSTITUTION, complete=complete)
    assert verdict(result, settings.gate)[0]
    results, _ = measure_benchmarks(settings, CONSTITUTION, complete=complete)
    result = GateResult.model_validate_json(result.model_copy(update={"benchmarks": results}).model_dump_json())
    passed, why = verdict(result, settings.gate)
    assert not passed
    assert "rm-bench: easy less hard is 1 [" in why
    table = benchmark_table(result)
    assert table.count("| rm-bench |") == 3
    assert "Factuality" in table


@pytest.mark.model
@pytest.mark.long
def test_the_real_model_answers_each_shape(tmp_path: Path) -> None:
    """Machinery alone."""
    (tmp_path / "data" / "models").mkdir(parents=True)
    model = prepared_model().path
    (tmp_path / "data" / "models" / model.name).symlink_to(model)
    project = Project.open({"data_root": str(tmp_path / "data"), "gate": {
        "benchmarks": [str(path) for path in files(tmp_path, n=1)], "benchmark_rows": 4}})
    try:
        complete = Completer(project.engines.open(project.settings.models.role("labeller")), project.store, seed=0)
        results, rows = measure_benchmarks(project.settings, CONSTITUTION, complete=complete)
    finally:
        project.close()
    assert rows["p_a"].null_count() == 0
    assert {m.shape for r in results for m in r.measured} == {"styles", "best", "ties", "pair", "ladder"}
    assert all(m.ungraded == 0 for r in results for m in r.measured)
