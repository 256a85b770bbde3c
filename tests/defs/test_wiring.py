"""The plan follows the wiring of a stage: what a stage reads and whom it asks is said in the stage alone."""

from __future__ import annotations

import polars as pl
import pytest
from histories import History

from cai_assets.assets import EVERY, SPENDING, Asset
from cai_assets.engines.protocol import Sampling
from cai_assets.pipeline import stages
from cai_assets.pipeline.context import Context
from cai_assets.plan import plan
from cai_assets.plan.plan import make_plan
from cai_assets.steps.pair import pair_responses
from cai_assets.steps.respond import respond
from cai_assets.steps.supervised import training_split
from cai_assets.store.tables import Parts

SMALL = {"critique": {"rounds": 2}, "gate": {"enforce": False, "pairs": 2},
         "evaluation": {"suites": ["prefill"], "suite_cases": 1, "round_chains": 2}}


def without_the_last_round(run: Context) -> stages.SupervisedParts:
    """The data set of another wiring: it leaves the second round's revisions out."""
    found = sl_dataset(run)
    return found._replace(parts=(part.filter(pl.col("round") < 2) for part in found.parts))


def pairs_of_the_generator(run: Context) -> Parts:
    """Pairs of another wiring: the generator's, whatever ``pairs.source`` says."""
    return [pair_responses(training_split(run.read("starting_responses")), complete=run.complete("generator"),
                           settings=run.settings.pairs, max_tokens=run.settings.generation.max_tokens)]


sl_dataset = stages.sl_dataset


@pytest.mark.parametrize("stage", ["sl_dataset", "response_pairs"])
def test_a_stage_that_is_wired_otherwise_is_planned_as_it_then_runs(
    history: History, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    history.settings |= SMALL
    data = history.root / "data"
    ok, version = history.run(data)
    assert ok
    usual = {line.asset: line for line in make_plan(history.project(data), version).lines}
    assert not any(line.generate_max or line.trains for line in usual.values())
    monkeypatch.setattr(stages, stage, {"sl_dataset": without_the_last_round,
                                        "response_pairs": pairs_of_the_generator}[stage])
    project = history.project(data)
    wired = {line.asset: line for line in make_plan(project, version).lines}
    below = "sl_policy" if stage == "sl_dataset" else "response_pairs"
    assert wired[below].trains or wired[below].generate_min
    assert history.run(data)[0]
    for asset in SPENDING:
        record = project.records.every(asset)[-1]
        assert wired[asset].generate_min <= record.generated <= wired[asset].generate_max, asset
    again = make_plan(history.project(data), version).lines
    assert not any(line.generate_max or line.trains for line in again), "planned, although it is done"


def test_an_asset_without_bounds_of_its_own_is_planned_by_its_stage(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def second_thoughts(run: Context) -> pl.DataFrame:
        return respond(run.read("prompts"), complete=run.complete("generator"), what="second thoughts",
                       sampling=Sampling(temperature=0.1, top_p=1.0, max_tokens=8))

    added = Asset(name="second_thoughts", group="evaluation", about="Answers.", reads=("prompts",), steps=("respond",))
    monkeypatch.setattr(plan, "EVERY", (*EVERY, added))
    project = history.project(history.root / "data")
    version = project.snapshots.register(history.constitution)
    with pytest.raises(LookupError, match=r"second_thoughts is declared .* has no stage"):
        make_plan(project, version)
    monkeypatch.setattr(stages, "second_thoughts", second_thoughts, raising=False)
    line = make_plan(project, version).line("second_thoughts")
    prompts = sum(history.settings["prompts"].values())
    assert (line.reuse, line.generate_min, line.generate_max) == (0, prompts, prompts)
