"""The plan of one constitution version: for each asset what is reused, generated and trained, and why.

It runs the stages themselves with a completer that only looks keys up (``dry.py``). Where a number depends on a text
or a checkpoint that does not exist yet, the plan gives bounds and says so.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, cast

import polars as pl

from cai_assets.assets import ASSETS, EVERY, Asset
from cai_assets.constitution.derive import Derived
from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.draw import critique_key, label_key
from cai_assets.constitution.model import Constitution
from cai_assets.pipeline import documents, evaluation, stages, trainings
from cai_assets.pipeline.context import Context
from cai_assets.pipeline.project import Project
from cai_assets.plan.causes import drawn_before
from cai_assets.plan.constitution_tests import plan_tests
from cai_assets.plan.dry import PLANNED, DryRun
from cai_assets.plan.evaluation import plan_evaluation, plan_rounds, plan_suites
from cai_assets.plan.lines import BOUNDS, REUSE, UNLESS, Line, imagining, waiting, waits
from cai_assets.plan.stress import plan_stress
from cai_assets.plan.training import TrainingFit, Trainings
from cai_assets.plan.written import plan_written
from cai_assets.steps.pair import calls_per_prompt
from cai_assets.steps.questions import ORDERS, calls_per_pair
from cai_assets.steps.thought import THOUGHT
from cai_assets.store import this_run
from cai_assets.store.tables import Parts, Table
from cai_assets.train.footprint import Footprint


@dataclass(frozen=True)
class Plan:
    """``writes``, ``fits``: of each training that is, or may have to be, done, what it leaves on the disk and takes of
    memory."""

    version: str
    compared_with: str | None
    lines: tuple[Line, ...]
    writes: Mapping[str, Footprint] = field(default_factory=dict)
    fits: Mapping[str, TrainingFit] = field(default_factory=dict)

    def line(self, asset: str) -> Line:
        return next(x for x in self.lines if x.asset == asset)

    def causes(self) -> Iterator[str]:
        """Every cause of every line."""
        return (cause for line in self.lines for cause in line.causes)

    def as_dict(self) -> dict[str, Any]:
        """As records keep it: what it was compared with, and its lines."""
        return {name: value for name, value in asdict(self).items() if name not in {"writes", "fits"}}


def make_plan(project: Project, version: str, derived: Derived | None = None) -> Plan:
    """Plan a registered version with the project's settings. Starts no engine and writes no record.

    ``derived``: a constitution made of that version, planned in its place whether it is registered or not.
    """
    with _no_search_for_cycles():
        planner = Planner(project, version, derived)
        plan = planner.run()
        if not planner.unwritten:
            return plan
        return _bounded(plan, Planner(project, version, derived, all_written=True).run())


def plan_of_run(project: Project, version: str) -> Plan:
    """The plan of the run that goes on, made when it is first asked for: of all that was there before the run."""
    return this_run.once(("plan", project, version), lambda: make_plan(project, version))


def _bounded(least: Plan, most: Plan) -> Plan:
    """The plan with all prompts that are still to be written, where none of these may come to anything."""
    lines = tuple(replace(high, generate_min=low.generate_min, note=high.note or BOUNDS, training=(
        UNLESS if low.training == REUSE and high.trains else high.training))
        if low.generate_min != high.generate_min or low.training != high.training else high
        for low, high in zip(least.lines, most.lines, strict=True))
    return replace(most, lines=lines)


def plan_draft(project: Project, constitution: Constitution) -> Plan:
    """Plan a constitution that need not be registered: an edit that nobody has saved yet."""
    return make_plan(imagining(project, constitution), partition_key(constitution))


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Pause Python's search for objects that refer to each other. A plan makes millions and none do; each pass of the
    search looks through all of them (10 to 20 % of the time)."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Planner(Trainings):
    """Runs every stage in the order of the graph. A method here says what is not as for any stage: which calls are
    certain, which are possible, and what causes them.

    ``all_written``: as if every prompt that is wanted were written; ``unwritten``: how many of them are not.
    """

    def __init__(self, project: Project, version: str, derived: Derived | None = None, *, all_written: bool = False
                 ) -> None:
        super().__init__(project, version, derived)
        self.all_written, self.unwritten = all_written, 0

    def run(self) -> Plan:
        bounds: dict[str, Callable[[], None]] = {
            "prompts": self._prompts, "written_prompts": partial(plan_written, self),
            "initial_responses": self._initial, "starting_responses": self._starting, "critiques": self._chains,
            "sl_dataset": self._dataset, "sl_policy": self._sl_policy,
            "response_pairs": self._pairs, "preference_pairs": self._labels, "reward_model": self._reward_model,
            "rl_policy": self._rl_policy,
            "evaluation": partial(plan_evaluation, self), "suite_results": partial(plan_suites, self),
            "round_quality": partial(plan_rounds, self), "constitution_tests": partial(plan_tests, self),
            "stress": partial(plan_stress, self),
        }
        for asset in sorted(EVERY, key=lambda a: a.versioned):
            if asset.kind in {"table", "training"} and asset.name not in {*self.made.tables, *self.absent}:
                bounds.get(asset.name, partial(self._any, asset))()
        return Plan(self.version, self.before, tuple(self.lines), self.writes, self.fits)

    def _any(self, asset: Asset) -> None:
        """What an asset comes to that has no bounds of its own: rows that wait for a text are possible calls."""
        stage = self.stage()
        made = _stage_of(asset.name)(stage)
        if asset.kind == "training":
            self.training(made, known=self._complete(*stage.tables_read), rows_of=stage.tables_read,
                          after=stage.started_from)
            return
        self.keep(asset.name, [made])
        if asset.spends:
            certain = _missing(stage)
            possible = max(certain, self._waiting(asset.name))
            self.line(asset.name, sum(dry.reused for dry in stage.asked.values()), certain, possible,
                      causes=self.with_changes(asset.name, possible, {}))

    def _prompts(self) -> None:
        self.keep("prompts", [stages.prompts(self.settings, repeats=False).frame])

    def _initial(self) -> None:
        stage = self.stage()
        responses = self.keep("initial_responses", stages.initial_responses(stage))
        new = self.unwritten if self.all_written else 0
        self.calls("initial_responses", stage.asked.values(), responses.height,
                   causes={"written_prompts are new": new} if new else {})

    def _starting(self) -> None:
        stage = self.stage()
        responses = self.keep("starting_responses", stages.starting_responses(stage))
        new = {f"{self.start.ref.id} is new": _missing(stage)} if self.start else {}
        self.calls("starting_responses", stage.asked.values(), responses.height if stage.asked else 0, causes=new)

    def _chains(self) -> None:
        stage = self.stage()
        made = self.made.scratch.keep_all(2, stages.critiques_and_revisions(stage))
        self.made.tables |= dict(zip(("critiques", "revisions"), made, strict=True))
        (dry,) = stage.asked.values()
        for asset in ("critiques", "revisions"):
            steps = ASSETS[asset].steps
            certain = sum(name in steps for name in dry.missing.values())
            waiting = self._waiting_rows(asset, "prompt_id", "round", "principle_id", "p_done", "error").with_columns(
                calls=self._calls_for_a_critique() if asset == "critiques" else self._calls_for_a_revision())
            self.line(asset, sum(dry.usage[s].reused for s in steps if s in dry.usage), certain,
                      int(waiting["calls"].sum()), causes=self._chain_causes(
                          asset, waiting if self.settings.sl.source == "in_context" else _chains(waiting)))

    def _chain_causes(self, asset: str, chains: pl.DataFrame) -> dict[str, int]:
        waiting = self._waiting_rows("starting_responses", "prompt_id")["prompt_id"].to_list()
        begun = ~pl.col("prompt_id").is_in(waiting)
        new = int(chains.filter(~begun)["calls"].sum())
        drawn = drawn_before(chains.filter(begun), self.constitution_before(), "critique",
                             lambda row: critique_key(row["prompt_id"], row["round"]))
        return {**({f"{self._first()} are new": new} if new else {}), **self.row_causes(asset, drawn, "critique")}

    def _calls_for_a_critique(self) -> pl.Expr:
        """At most how many critiques and verdicts a waiting row needs; one whose verdict is known has p_done."""
        asked = self.settings.critique
        verdicts = pl.lit(0) if asked.stop_above is None else pl.col("p_done").is_null().cast(pl.Int64)
        return verdicts + int(asked.mode == "critique")

    def _calls_for_a_revision(self) -> pl.Expr:
        """Of one that waits for a text, or for its reason."""
        reasons = "reason_error" in self.made.tables["revisions"].columns
        return pl.when(waits("error")).then(1 + reasons).otherwise(1)

    def _dataset(self) -> None:
        self.keep("sl_dataset", stages.sl_dataset(self.stage()).parts)

    def _sl_policy(self) -> None:
        stage = self.stage()
        self.training(trainings.sl_policy(stage), known=self._complete("revisions", "starting_responses"),
                      rows_of=(self._first(), "revisions"), after=stage.started_from,
                      waiting=self._waiting("revisions"))

    def _pairs(self) -> None:
        answered = self.made.scratch.keep(part.with_columns(response=pl.col("response").fill_null("?"))
                                          for part in self.made.tables["starting_responses"].parts())
        stage = self.stage(starting_responses=answered, **self._settled())  # each gets a pair
        pairs = self.keep("response_pairs", stages.response_pairs(stage))
        calls = calls_per_prompt(self.settings.pairs) * pairs.read("prompt_id").n_unique()
        known = self._complete("starting_responses")
        new = [] if known or not stage.asked else ["prompts are new"]
        if stage.started_from:  # samples of a policy
            known = all(self.state(name) != UNLESS for name in stage.started_from)
            new = [f"{name} is new" for name in stage.started_from if self.is_new(name)]
        self.calls("response_pairs", stage.asked.values(), calls, certain=known, causes=dict.fromkeys(new, calls))

    def _settled(self) -> dict[str, Table]:
        """Revisions, without the texts of chains that wait for something: which of theirs is the last is not known yet.
        Only pairs of revisions read them."""
        if "revisions" in self.absent or self.settings.pairs.source != "revision":
            return {}
        waits = pl.col("prompt_id").is_in(self._waiting_rows("revisions", "prompt_id")["prompt_id"].to_list())
        return {"revisions": self.made.scratch.keep(
            part.with_columns(revision=pl.when(~waits).then("revision"),
                              error=pl.when(waits).then(pl.lit(PLANNED)).otherwise("error"))
            for part in self.made.tables["revisions"].parts())}

    def _labels(self) -> None:
        gate, stage = self.stage(), self.stage()
        stages.gate_labels(gate)
        labels = self.keep("preference_pairs", stages.preference_pairs(stage))
        waiting = self._waiting("response_pairs") * calls_per_pair(self.settings.labels, self.constitution)
        questions = _unanswered(labels.read("pair_id", "votes", where=pl.col("error") == PLANNED)).with_columns(
            calls=self._calls_for_a_question())
        if self.settings.labels.principles == "drawn":
            questions = drawn_before(questions, self.constitution_before(), "preference",
                                     lambda row: label_key(row["pair_id"]))
        causes = self.row_causes("preference_pairs", questions, "preference")
        if waiting:
            causes = {"response_pairs are new": waiting, **causes}
        if _missing(gate):
            causes = {"the labeller's agreement with people is measured": _missing(gate), **causes}
        dries = [*gate.asked.values(), *stage.asked.values()]
        missing = {key: step for dry in dries for key, step in dry.missing.items()}
        unread = sum(step == THOUGHT.name for step in missing.values())  # an answer follows each thought
        self.line("preference_pairs", sum(dry.reused for dry in dries), len(missing), len(missing) + unread + waiting,
                  causes=causes)

    def _calls_for_a_question(self) -> int:
        """Both orders, each sample, and a thought before each answer."""
        labels = self.settings.labels
        return len(ORDERS) * labels.samples * (2 if labels.chain_of_thought else 1)

    def _reward_model(self) -> None:
        self.training(trainings.reward_model(self.stage()).training, known=self._complete("preference_pairs"),
                      rows_of=("preference_pairs",), waiting=self._waiting("preference_pairs"))

    def _rl_policy(self) -> None:
        stage = self.stage()
        training = trainings.rl_policy(stage)
        rows = [name for name in stage.tables_read if name != "response_pairs"]  # of pairs the prompts alone are read
        above = ["revisions" if name == "sl_dataset" else name for name in rows]
        self.training(training, known="preference_pairs" not in rows or self._complete("preference_pairs"),
                      rows_of=above, after=stage.started_from)

    def _first(self) -> str:
        """The asset whose model calls made the round's first responses."""
        return "starting_responses" if self.start else "initial_responses"

    def _complete(self, *assets: str) -> bool:
        """Whether no row of these tables waits for a text."""
        return not any(map(self._waiting, assets))

    def keep(self, asset: str, parts: Parts) -> Table:
        """What the stage of an asset made."""
        self.made.tables[asset] = self.made.scratch.keep(parts)
        return self.made.tables[asset]

    def _waiting(self, asset: str) -> int:
        """How many rows of an asset wait for something not generated yet."""
        table = self.made.tables[asset]
        return table.count(waiting(table.columns))

    def _waiting_rows(self, asset: str, *columns: str) -> pl.DataFrame:
        """These rows."""
        table = self.made.tables[asset]
        return table.read(*columns, where=waiting(table.columns))


def _stage_of(asset: str) -> Callable[[Context], Any]:
    """The function of an asset's name. Raise LookupError."""
    for module in (stages, documents, trainings, evaluation):
        if stage := getattr(module, asset, None):
            return cast(Callable[[Context], Any], stage)
    raise LookupError(f"{asset} is declared in assets.py and has no stage: write a function of that name in pipeline/")


def _missing(stage: DryRun) -> int:
    return sum(len(dry.missing) for dry in stage.asked.values())


def _unanswered(labels: pl.DataFrame) -> pl.DataFrame:
    """The principle of each question that waits for an answer; null where all principles are in one question."""
    each = labels.select("pair_id", "votes").explode("votes", empty_as_null=True).unnest("votes")
    return each.filter(pl.col("p_a").is_null())


def _chains(waiting: pl.DataFrame) -> pl.DataFrame:
    """A chain is generated again from its first missing row on: that row's principle causes all its calls."""
    return waiting.sort("prompt_id", "round").group_by("prompt_id", maintain_order=True).agg(
        pl.col("principle_id", "round").first(), pl.col("calls").sum())
