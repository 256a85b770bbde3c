"""Half of the graph alone: RLAIF without a supervised half, and that without RLAIF.

Nothing of the other half is planned, made, checked, or told.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from histories import START, History, copy_instead_of_training
from tiny_models import tiny_model

from cai_assets.assets import ASSETS, HALVES, OPTIONAL, ORDER, WITHOUT_VERSION, members
from cai_assets.constitution.derive import only
from cai_assets.constitution.lint import lint
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.defs import launch
from cai_assets.defs.execute import materialize
from cai_assets.defs.outcome import failures
from cai_assets.engines.models import identify
from cai_assets.export.subject import find_subject
from cai_assets.lineage.trace import trace
from cai_assets.pipeline.absent import absent, said
from cai_assets.plan.lines import version_before
from cai_assets.plan.plan import make_plan
from cai_assets.reports.compare.gather import compare
from cai_assets.reports.compare.page import render as render_comparison
from cai_assets.reports.standings import standings
from cai_assets.reports.version.answers import answers
from cai_assets.reports.version.evidence import evidence_of
from cai_assets.reports.version.page import render
from cai_assets.steps.questions import NoRequest
from cai_assets.store.records import RecordMissing
from cai_assets.versions.rounds import round_of
from cai_assets.versions.snapshots import VERSIONS

SUPERVISED, PREFERENCE = HALVES
GONE = {"preference": {"critique": None, "revision": None}, "critique": {"preference": None, "rubric": None}}


def stripped(c: Constitution, left: str) -> Constitution:
    """With the requests of one half alone."""
    kept = tuple(p.model_copy(update=GONE[left]) for p in c.principles if getattr(p, left))
    return c.model_copy(update={"name": f"{left}-alone", "principles": kept})


class Half:
    """A version with one half, made whole from nothing, and what its plan said before."""

    def __init__(self, folder: Path, model: Path, left: str) -> None:
        self.history = History(folder, model)
        self.history.constitution = stripped(START, left)
        self.project = self.history.project(folder / "data")
        self.version = self.project.snapshots.register(self.history.constitution)
        self.plan = make_plan(self.project, self.version)
        self.events: list[Any] = []
        self.run(self.version)
        self.records = {a: r for a in ASSETS if (r := self.record(a))}

    def record(self, asset: str, version: str | None = None) -> Any:
        try:
            return self.project.records.latest(asset, None if asset in WITHOUT_VERSION else version or self.version)
        except RecordMissing:
            return None

    def run(self, version: str, *selection: str) -> None:
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions(VERSIONS, [version])
            result = materialize(instance, version, selection=selection, overrides={
                **self.history.settings, "data_root": str(self.project.settings.data_root)})
            assert result.success, failures(result)
            self.events = [e.asset_check_evaluation_data for e in result.all_events
                           if e.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION]


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Half]]:
    folder = tmp_path_factory.mktemp("halves")
    model = tiny_model(folder / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_run", copy_instead_of_training)
        yield {left: Half(folder / left, model, left) for left in GONE}


@pytest.mark.parametrize(("left", "lost"), [("preference", SUPERVISED), ("critique", PREFERENCE)])
def test_nothing_of_the_other_half_is_planned_made_or_told(halves: dict[str, Half], left: str, lost: Any) -> None:
    half, c = halves[left], halves[left].history.constitution
    gone = set(members(lost))
    assert absent(c) == {*gone, *OPTIONAL}
    assert not gone & half.records.keys()
    assert half.records.keys() | gone == set(ORDER)
    assert not gone & {line.asset for line in half.plan.lines}
    made = {a: r for a, r in half.records.items() if r.generated or r.reused}
    for line in half.plan.lines:
        if line.asset in made and not line.training:
            assert line.generate_min <= made[line.asset].generated <= line.generate_max
    about = {e.asset_key.to_user_string() for e in half.events if not e.passed}
    assert not about & gone
    levels = [f.level for f in lint(c) if f"no {lost.requests[0]} request" in f.message or "has a " in f.message]
    assert "warning" not in levels
    (standing,) = standings(half.project)
    assert standing.made == standing.of == len(ORDER) - len(WITHOUT_VERSION) - len(gone)
    assert not any(line.generate_max or line.trains for line in make_plan(half.project, half.version).lines)
    evidence = evidence_of(half.project.layout, half.version)
    html, told = render(evidence), [a.question for a in answers(evidence)]
    assert said(c) in html.replace("&#39;", "'")
    assert ("Where does critique stop paying off?" in told, "Was the reward hacked?" in told) == (
        left == "critique", left == "preference")
    for name in gone:
        assert f"--select {name}" not in html
    page = render_comparison(compare(half.project.layout, half.version, half.version))
    assert "At least one version has no" not in page


def test_a_rubric_alone_labels_nothing_wherever_it_is_said() -> None:
    c = Constitution(name="c", version="v1", principles=(Principle(id="kind", rubric="Is it kind?"),))
    assert absent(c) == {*members(SUPERVISED), *members(PREFERENCE), *OPTIONAL}
    assert said(c).startswith("No principle has a critique request and no preference request: nothing is trained.")
    assert "no principle has a preference request: there can be no AI feedback" in [f.message for f in lint(c)]


def test_rl_starts_from_the_starting_policy_and_the_trace_ends_there(halves: dict[str, Half]) -> None:
    half = halves["preference"]
    base = identify(half.history.model, half.project.layout).weights
    found = half.project.checkpoints.find("rl_policy", half.records["rl_policy"].digest)
    assert found is not None
    assert found.record["base"]["weights"] == base
    policies = set(half.project.records.table(half.records["evaluation"])["policy"])
    assert policies == {"base", "base_again", "sft_baseline", "rl_policy", "reward_model"}
    pairs = half.project.records.table(half.records["response_pairs"])
    assert pairs.height
    chain = trace(half.project.layout, f"rl_policy@{half.version}")
    assert not chain.lineage.problems
    assert not {r.asset for r in chain.lineage.records.values()} & set(members(SUPERVISED))
    alone = only(half.history.constitution, half.history.constitution.principles[0].id)
    assert absent(alone.constitution) == {*members(SUPERVISED), *OPTIONAL}


def test_one_asset_alone_is_made_again_and_what_the_other_half_would_give_is_refused(halves: dict[str, Half]) -> None:
    half = halves["preference"]
    before = half.record("rl_policy")
    half.run(half.version, "rl_policy")
    again = half.record("rl_policy")
    assert (again.digest, again.details["reused_checkpoint"]) == (before.digest, True)
    for settings in ({"pairs": {"source": "revision"}}, {"rl": {"alpha": 0.5}}):
        project = type(half.project).open({**half.history.settings, **settings, "data_root": str(
            half.project.settings.data_root)})
        with pytest.raises(NoRequest, match="no principle has a critique request"):
            make_plan(project, half.version)


def test_rl_alone_starts_from_the_policy_trained_on_documents_where_the_version_has_one(
    halves: dict[str, Half], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_run", copy_instead_of_training)
    half = copy(halves["preference"])
    half.history, root = copy(half.history), shutil.copytree(half.project.settings.data_root, tmp_path / "data")
    half.history.settings = {**half.history.settings, "documents": {"per_kind": 1, "kinds": ["memo"]}}
    half.project = half.history.project(root)
    plan = make_plan(half.project, half.version)
    assert not set(members(SUPERVISED)) & {line.asset for line in plan.lines}
    assert all("mid_policy is new" in plan.line(asset).causes for asset in ("response_pairs", "rl_policy"))
    half.run(half.version, *OPTIONAL, *members(PREFERENCE))
    mid, rl = half.record("mid_policy"), half.record("rl_policy")
    found = half.project.checkpoints.find("rl_policy", rl.digest)
    assert found is not None
    assert (found.record["base_name"], found.record["base"]["weights"]) == ("mid_policy", mid.digest)
    assert rl.digest != half.records["rl_policy"].digest
    assert mid.ref in rl.inputs
    again = make_plan(half.project, half.version)
    assert not any(again.line(asset).generate_max or again.line(asset).trains for asset in members(PREFERENCE))
    traced = trace(half.project.layout, f"rl_policy@{half.version}").lineage
    assert not traced.problems
    assert {"spec_documents", "mid_policy"} <= {r.asset for r in traced.records.values()}
    subject = find_subject(half.project.layout, f"rl_policy@{half.version}")
    assert subject.base()[1] == identify(half.history.model, half.project.layout).weights
    off = half.history.settings | {"documents": {}}  # and without them nothing is left to do
    half.history.settings = off
    lines = make_plan(half.history.project(root), half.version).lines
    assert not {line.asset for line in lines if line.trains} & {"mid_policy", "rl_policy"}


@pytest.mark.long
@pytest.mark.parametrize(("left", "policy"), [("preference", "rl_policy"), ("critique", "sl_policy")])
def test_the_next_round_goes_on_and_is_compared_with_the_first(
    halves: dict[str, Half], left: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_run", copy_instead_of_training)
    half = halves[left]
    later = round_of(half.version).next().key
    half.project.snapshots.register_round(later)
    assert version_before(half.project, later) == half.version
    half.run(later)
    started = half.project.checkpoints.find(policy, half.record(policy, later).digest)
    assert started is not None
    assert started.record["base"]["weights"] == half.records[policy].digest
    assert version_before(half.project, round_of(later).next().key) == half.version
