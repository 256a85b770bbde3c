"""Answers with a principle in view: keyed by what they saw, trained without it, and watched for collapse."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl
import pytest
from model_fixtures import prepared_model
from oracle import Oracle

from cai_assets.constitution.load import load_file
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.engines.protocol import Sampling
from cai_assets.evals.collapse import collapse
from cai_assets.pipeline.project import Project
from cai_assets.settings import Critique, Generation, Monitors, SettingsError, Supervised, load_settings
from cai_assets.steps.complete import Completer
from cai_assets.steps.in_context import answer_in_context
from cai_assets.steps.prompts import load_prompts
from cai_assets.steps.respond import respond
from cai_assets.steps.supervised import sl_dataset
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore
from cai_assets.train.identity import recipe

ROUNDS, PROMPTS = 3, 40


def constitution(**edits: str) -> Constitution:
    return Constitution(name="c", version="v1", principles=tuple(
        Principle(id=f"p{i}", critique=edits.get(f"p{i}", f"Critique by {i}?"), revision=f"Revise by {i}.")
        for i in range(8)))


def responses(n: int = PROMPTS) -> pl.DataFrame:
    system = {"role": "system", "content": "You sell tea."}
    return pl.DataFrame([{
        "prompt_id": f"q{i:03d}", "kind": "red-team", "split": "train", "error": None, "row_id": f"i1:{i}",
        "messages": [*([system] if i == 0 else []), {"role": "user", "content": f"Question {i}?"}],
        "response": f"Answer {i}.", "finish": "stop"} for i in range(n)], schema_overrides={"error": pl.String})


def run(root: Path, engine: Oracle, of: Constitution, frame: pl.DataFrame | None = None
        ) -> tuple[pl.DataFrame, pl.DataFrame]:
    return answer_in_context(responses() if frame is None else frame, of, settings=Critique(rounds=ROUNDS),
                             generation=Generation(), complete=Completer(engine, RowStore(Layout(root)), seed=0))


def test_each_answer_saw_its_drawn_principle_and_training_sees_none(tmp_path: Path) -> None:
    engine = Oracle()
    critiques, answers = run(tmp_path, engine, constitution())
    sent = {r.row_key: r.call.messages for r in engine.calls}
    assert answers.height == critiques.height == len(sent) == ROUNDS * PROMPTS
    for row in answers.iter_rows(named=True):
        system, *asked = sent[row["row_key"]]
        number = row["principle_id"].removeprefix("p")
        assert f"Critique by {number}?" in system["content"]
        assert f"Revise by {number}." in system["content"]
        assert system["content"].endswith("You sell tea.") == (row["prompt_id"] == "q000")
        assert [m["role"] for m in asked] == ["user"]
        assert (row["parent_id"], row["critique_id"], row["error"]) == (row["prompt_id"], None, None)
    assert answers["before"].to_list() == [f"Answer {i}." for i in range(PROMPTS) for _ in range(ROUNDS)]
    assert set(critiques["stopped"]) == {"no critique: sl.source is 'in_context'"}
    assert critiques["critique"].null_count() == critiques.height
    trained = sl_dataset(responses(), answers, Supervised())
    assert trained["response"].to_list() == answers["revision"].to_list()
    assert "Critique by" not in str(trained["messages"].to_list())


def test_an_edit_changes_the_keys_that_saw_it_and_no_others(tmp_path: Path) -> None:
    _, before = run(tmp_path, Oracle(), constitution())
    _, after = run(tmp_path, engine := Oracle(), constitution(p3="Is it long?"))
    drew = before.filter(principle_id="p3")
    assert 0 < drew.height < before.height
    assert len(engine.calls) == drew.height
    both = before.join(after, on=["prompt_id", "round"], suffix="_after")
    changed = both.filter(pl.col("row_key") != pl.col("row_key_after"))
    assert set(changed["principle_id"]) == {"p3"}
    assert changed.height == drew.height
    run(tmp_path, again := Oracle(), constitution())
    assert again.calls == []


def test_a_failed_call_is_a_row_with_its_reason_and_the_others_are_answered(tmp_path: Path) -> None:
    broken = Oracle(fails=lambda request: "Question 5?" in str(request.call.messages))
    _, answers = run(tmp_path, broken, constitution())
    failed = answers.filter(pl.col("error").is_not_null())
    assert set(failed["prompt_id"]) == {"q005"}
    assert failed.height == ROUNDS
    _, none = run(tmp_path, Oracle(), constitution(), responses().with_columns(response=pl.lit(None, pl.String)))
    assert none["before"].null_count() == none.height  # a first response is not needed
    assert none["error"].null_count() == none.height


def test_the_setting_is_in_no_key_and_refuses_what_it_does_not_read(tmp_path: Path) -> None:
    plain, arm = load_settings({}), load_settings({"sl": {"source": "in_context"}})
    assert recipe(plain, "supervised") == recipe(arm, "supervised")
    for name, value in (("mode", "direct"), ("shuffle", True), ("stop_above", 0.5)):
        with pytest.raises(SettingsError, match=rf"so critique\.{name} decides nothing"):
            load_settings({"sl": {"source": "in_context"}, "critique": {name: value}})


def words(rng: random.Random, n: int) -> str:
    return " ".join(f"w{rng.randrange(900)}" for _ in range(n))


def answered(say: str) -> pl.DataFrame:
    """Answers in context beside first responses of twenty words, all different."""
    rng = random.Random(say)
    rows = [{"prompt_id": f"q{i}", "round": k, "before": (first := words(rng, 20)), "revision": {
        "other": words(rng, 20), "same": first, "one": "I am sorry, but I cannot help anybody with that at all.",
        "short": words(rng, 5), "some": "No, I will not." if i < 20 else words(rng, 20)}[say]}
        for i in range(PROMPTS) for k in (1, 2)]
    return pl.DataFrame(rows)


@pytest.mark.parametrize(("say", "expected"), [
    ("other", ("passed", "passed")), ("same", ("passed", "passed")), ("one", ("failed", "passed")),
    ("short", ("passed", "failed")), ("some", ("failed", "passed"))])
def test_a_planted_collapse_is_told_and_none_is_not(say: str, expected: tuple[str, str]) -> None:
    found = collapse(answered(say), Monitors())
    assert [f.name for f in found] == ["near_identical", "shortening"]
    assert found[0].state == expected[0], found[0].text
    assert (found[1].state == "failed") == (expected[1] == "failed"), found[1].text


def test_the_limits_of_a_collapse_are_settings_and_too_few_are_too_few() -> None:
    lenient = collapse(answered("some"), Monitors(sameness_growth=0.9))
    assert lenient[0].state == "passed"
    assert {f.state for f in collapse(answered("one").head(6), Monitors())} == {"too few to tell"}
    assert {f.state for f in collapse(answered("one").clear(), Monitors())} == {"too few to tell"}


@pytest.mark.model
def test_the_real_model_answers_in_context(tmp_path: Path) -> None:
    """Machinery alone: an answer for each draw, other than the first response, and the same again is reused."""
    (tmp_path / "models").mkdir()
    model = prepared_model().path
    (tmp_path / "models" / model.name).symlink_to(model)
    project = Project.open({"data_root": str(tmp_path), "models": {"generator": {"backend": "transformers"}}})
    short = Generation(max_tokens=12)
    shipped = load_file(Path(__file__).parents[2] / "constitutions" / "neutral.yaml")
    try:
        complete = Completer(project.engines.open(project.settings.models.role("generator")), project.store, seed=0)
        asked = load_prompts((), max_chars=300).frame.filter(kind="red-team").sort("prompt_id").head(3)
        first = respond(asked, complete=complete, sampling=Sampling(max_tokens=12))
        made = [answer_in_context(first, shipped, complete=complete, settings=Critique(rounds=2), generation=short)[1]
                for _ in range(2)]
    finally:
        project.close()
    assert made[0].equals(made[1])
    assert made[0].height == 6
    assert made[0]["error"].null_count() == 6
    assert (made[0]["revision"] != made[0]["before"]).any()
    assert complete.usage["in_context"].reused >= 6
