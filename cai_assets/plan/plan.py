"""The plan of one constitution version: for each asset what is reused, generated and trained, and why.

It runs the stages themselves with a completer that only looks keys up (``dry.py``). Where a number depends on a text
or a checkpoint that does not exist yet, the plan gives bounds and says so.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from cai_assets.constitution.derive import Derived
from cai_assets.constitution.draw import critique_key, label_key
from cai_assets.engines.models import identify
from cai_assets.pipeline import stages
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import checkpoint_of, critic, labeller, starting_policy
from cai_assets.plan.causes import drawn_before
from cai_assets.plan.constitution_tests import plan_tests
from cai_assets.plan.dry import PLANNED
from cai_assets.plan.evaluation import plan_evaluation, plan_rounds, plan_suites
from cai_assets.plan.lines import UNLESS, Line, planned
from cai_assets.plan.training import Trainings
from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.registry.rewards import REWARDS
from cai_assets.steps.pair import calls_per_prompt
from cai_assets.steps.prompts import SCHEMA as PROMPTS
from cai_assets.steps.prompts import load_prompts, select
from cai_assets.steps.questions import ORDERS, calls_per_pair
from cai_assets.steps.thought import THOUGHT
from cai_assets.store.checkpoints import Checkpoint


@dataclass(frozen=True)
class Plan:
    version: str
    compared_with: str | None
    lines: tuple[Line, ...]

    def line(self, asset: str) -> Line:
        return next(x for x in self.lines if x.asset == asset)

    def causes(self) -> Iterator[str]:
        """Every cause of every line."""
        return (cause for line in self.lines for cause in line.causes)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def make_plan(project: Project, version: str, derived: Derived | None = None) -> Plan:
    """Plan a registered version with the project's settings. Starts no engine and writes no record.

    ``derived``: a constitution made of that version, planned in its place whether it is registered or not.
    """
    with _no_search_for_cycles():
        return Planner(project, version, derived).run()


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
    """``tables``: what the stages made of stored rows, by asset."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.tables: dict[str, pl.DataFrame] = {}

    def run(self) -> Plan:
        s = self.settings
        initial = self._initial()
        base = starting_policy(self.project, None).identity
        baseline = self.training("sft_baseline", "supervised", base,
                                 stages.supervised_training(stages.baseline_rows(s, initial)),
                                 known=not planned(initial).height, rows_of=("initial_responses",))
        responses = self._starting(initial)
        sl, revisions, data = self._supervised(responses)
        pairs = self._pairs(responses, revisions, sl)
        labels = self._labels(pairs)
        reward = self.training("reward_model", "reward", base,
                               stages.reward_training(stages.reward_comparisons(s, labels, responses).frame),
                               known=not planned(labels).height, rows_of=("preference_pairs",))
        rl = self._reinforcement(sl, reward, pairs, labels, data)
        trained = {"sft_baseline": baseline, "sl_policy": sl, "rl_policy": rl}
        plan_evaluation(self, responses, trained)
        plan_suites(self, responses, trained)
        plan_rounds(self, responses, revisions)
        plan_tests(self, rl)
        return Plan(self.version, self.before, tuple(self.lines))

    # One method for each part of the graph.

    def _initial(self) -> pl.DataFrame:
        p = self.settings.prompts
        loaded = load_prompts(p.paths, max_chars=p.max_chars)
        prompts = select(loaded.frame, p, seed=self.settings.seed, first=loaded.origins["prompt_id"].to_list())
        dry = self.dry("generator")
        responses = stages.initial_responses(self.settings, prompts, complete=dry)
        self.tables["initial_responses"] = responses
        self.calls("initial_responses", [dry], responses.height)
        return responses

    def _starting(self, initial: pl.DataFrame) -> pl.DataFrame:
        if self.start is None:  # round 1 begins with the initial responses themselves
            self.line("starting_responses", 0, 0, 0, causes={})
            self.tables["starting_responses"] = initial
            return initial
        dry = self.dry(checkpoint_of(self.project, self.start))
        responses = stages.initial_responses(self.settings, initial.select(PROMPTS.names()), complete=dry)
        self.tables["starting_responses"] = responses
        self.calls("starting_responses", [dry], responses.height,
                   causes={f"{self.start.ref.id} is new": len(dry.missing)})
        return responses

    def _supervised(self, responses: pl.DataFrame) -> tuple[Checkpoint | None, pl.DataFrame, pl.DataFrame]:
        """The SL policy if it exists, the revisions, and the rows it is trained on."""
        dry = self.dry(critic(self.project, self.start).identity)
        critiques, revisions = stages.critiques_and_revisions(self.settings, self.constitution, responses, complete=dry)
        self.tables |= {"critiques": critiques, "revisions": revisions}
        for asset, frame, steps in (("critiques", critiques, ("critique", "verdict")),
                                    ("revisions", revisions, ("revision",))):
            certain = sum(name in steps for name in dry.missing.values())
            waiting = planned(frame).with_columns(
                calls=self._calls_for_a_critique() if asset == "critiques" else pl.lit(1))
            self.line(asset, sum(dry.usage[s].reused for s in steps if s in dry.usage), certain,
                      int(waiting["calls"].sum()), causes=self._chain_causes(asset, _chains(waiting), responses))
        data = stages.supervised_rows(self.settings, responses, revisions).frame
        start = starting_policy(self.project, self.start).identity
        sl = self.training("sl_policy", "supervised", start, stages.supervised_training(data),
                           known=not planned(revisions).height and not planned(responses).height,
                           rows_of=("starting_responses" if self.start else "initial_responses", "revisions"))
        return sl, revisions, data

    def _chain_causes(self, asset: str, chains: pl.DataFrame, responses: pl.DataFrame) -> dict[str, int]:
        start = "starting_responses" if self.start else "initial_responses"
        begun = ~pl.col("prompt_id").is_in(planned(responses)["prompt_id"].to_list())
        new = int(chains.filter(~begun)["calls"].sum())
        drawn = drawn_before(chains.filter(begun), self.constitution_before(), "critique",
                             lambda row: critique_key(row["prompt_id"], row["round"]))
        return {**({f"{start} are new": new} if new else {}), **self.row_causes(asset, drawn, "critique")}

    def _calls_for_a_critique(self) -> pl.Expr:
        """At most how many critiques and verdicts a waiting row needs; one whose verdict is known has p_done."""
        asked = self.settings.critique
        verdicts = pl.lit(0) if asked.stop_above is None else pl.col("p_done").is_null().cast(pl.Int64)
        return verdicts + int(asked.mode == "critique")

    def _pairs(self, responses: pl.DataFrame, revisions: pl.DataFrame, sl: Checkpoint | None) -> pl.DataFrame:
        source = self.settings.pairs.source
        dry = self.dry("generator" if source == "generator" else sl)
        answered = responses.with_columns(response=pl.col("response").fill_null("?"))  # each gets a pair in the end
        pairs = stages.response_pairs(self.settings, answered, _settled(revisions), complete=dry)
        self.tables["response_pairs"] = pairs
        calls = calls_per_prompt(self.settings.pairs) * pairs["prompt_id"].n_unique()
        known = not planned(responses).height if source == "generator" else self.state("sl_policy") != UNLESS
        new = {"policy": "sl_policy is new" if not sl else "", "generator": "" if known else "prompts are new"}
        cause = new.get(source)
        self.calls("response_pairs", [dry], calls, certain=known, causes={cause: calls} if cause else {})
        return pairs

    def _labels(self, pairs: pl.DataFrame) -> pl.DataFrame:
        dry = self.dry("labeller")
        stages.judge_gate(self.settings, self.constitution, complete=dry)
        gate = len(dry.missing)
        labels = stages.preference_pairs(self.settings, self.constitution, pairs, complete=dry)
        self.tables["preference_pairs"] = labels
        waiting = planned(pairs).height * calls_per_pair(self.settings.labels, self.constitution)
        questions = _unanswered(labels.filter(pl.col("error") == PLANNED)).with_columns(
            calls=self._calls_for_a_question())
        if self.settings.labels.principles == "drawn":
            questions = drawn_before(questions, self.constitution_before(), "preference",
                                     lambda row: label_key(row["pair_id"]))
        causes = self.row_causes("preference_pairs", questions, "preference")
        if waiting:
            causes = {"response_pairs are new": waiting, **causes}
        if gate:
            causes = {"the labeller's agreement with people is measured": gate, **causes}
        unread = sum(step == THOUGHT.name for step in dry.missing.values())  # an answer follows each thought
        certain = len(dry.missing)
        self.line("preference_pairs", dry.reused, certain, certain + unread + waiting, causes=causes)
        return labels

    def _calls_for_a_question(self) -> int:
        """Both orders, each sample, and a thought before each answer."""
        labels = self.settings.labels
        return len(ORDERS) * labels.samples * (2 if labels.chain_of_thought else 1)

    def _reinforcement(
        self, sl: Checkpoint | None, reward: Checkpoint | None, pairs: pl.DataFrame, labels: pl.DataFrame,
        supervised: pl.DataFrame,
    ) -> Checkpoint | None:
        rl = self.settings.rl
        online, runs = ALGORITHMS[rl.algorithm].online, REWARDS[rl.reward].runs
        rows = pairs if online else labels
        return self.training(
            "rl_policy", "reinforcement", sl and identify(sl.path, self.project.layout),
            stages.reinforcement_training(stages.reinforcement_rows(self.settings, self.constitution, rows)),
            known=online or not planned(labels).height,
            rows_of=(*([] if online else ["preference_pairs"]), *(["revisions"] if rl.alpha else [])),
            after=("sl_policy", "reward_model") if runs == "reward_model" else ("sl_policy",),
            reward_model=reward if runs == "reward_model" else None,
            labeller=labeller(self.project).identity if runs == "labeller" else None,
            supervised=None if rl.alpha is None else stages.supervised_training(supervised))


def _settled(revisions: pl.DataFrame) -> pl.DataFrame:
    """Without the texts of chains that wait for something: which of their revisions is the last is not known yet."""
    waits = pl.col("prompt_id").is_in(planned(revisions)["prompt_id"].to_list())
    return revisions.with_columns(revision=pl.when(~waits).then("revision"),
                                  error=pl.when(waits).then(pl.lit(PLANNED)).otherwise("error"))


def _unanswered(labels: pl.DataFrame) -> pl.DataFrame:
    """The principle of each question that waits for an answer; null where all principles are in one question."""
    each = labels.select("pair_id", "votes").explode("votes", empty_as_null=True).unnest("votes")
    return each.filter(pl.col("p_a").is_null())


def _chains(waiting: pl.DataFrame) -> pl.DataFrame:
    """A chain is generated again from its first missing row on: that row's principle causes all its calls."""
    return waiting.sort("prompt_id", "round").group_by("prompt_id", maintain_order=True).agg(
        pl.col("principle_id", "round").first(), pl.col("calls").sum())


