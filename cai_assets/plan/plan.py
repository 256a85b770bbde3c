"""The plan of one constitution version: for each asset what is reused, generated and trained, and why.

It runs the stages themselves with a completer that only looks keys up (``dry.py``). Where a number depends on a text
or a checkpoint that does not exist yet, the plan gives bounds and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import polars as pl

from cai_assets import stages
from cai_assets.constitution.derive import Derived
from cai_assets.engines.models import identify
from cai_assets.engines.protocol import ModelIdentity
from cai_assets.lineage.checkpoints import Checkpoint
from cai_assets.plan.constitution_tests import plan_tests
from cai_assets.plan.dry import PLANNED
from cai_assets.plan.evaluation import plan_evaluation, plan_rounds, plan_suites
from cai_assets.plan.lines import Line, Lines, cost_of, planned
from cai_assets.plan.rates import Rate, training_rate
from cai_assets.project import Project
from cai_assets.start import checkpoint_of, critic, labeller, starting_policy
from cai_assets.steps.pair import calls_per_prompt
from cai_assets.steps.prompts import SCHEMA as PROMPTS
from cai_assets.steps.prompts import load_prompts, select
from cai_assets.steps.questions import calls_per_pair
from cai_assets.steps.thought import THOUGHT
from cai_assets.train.job import Kind

UNLESS: Literal["train unless unchanged"] = "train unless unchanged"


@dataclass(frozen=True)
class Plan:
    version: str
    compared_with: str | None
    lines: tuple[Line, ...]

    def line(self, asset: str) -> Line:
        return next(x for x in self.lines if x.asset == asset)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def make_plan(project: Project, version: str, derived: Derived | None = None) -> Plan:
    """Plan a registered version with the project's settings. Starts no engine and writes no record.

    ``derived``: a constitution made of that version, planned in its place whether it is registered or not.
    """
    return _Planner(project, version, derived).run()


class _Planner(Lines):
    def run(self) -> Plan:
        s = self.settings
        initial = self._initial()
        base = starting_policy(self.project, None).identity
        baseline = self._training("sft_baseline", "supervised", base,
                                  stages.supervised_training(stages.baseline_rows(s, initial)),
                                  known=not planned(initial).height)
        responses = self._starting(initial)
        sl, revisions, data = self._supervised(responses)
        pairs = self._pairs(responses, revisions, sl)
        labels = self._labels(pairs)
        reward = self._training("reward_model", "reward", base,
                                stages.reward_training(stages.reward_comparisons(s, labels, responses).frame),
                                known=not planned(labels).height)
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
        self.calls("initial_responses", [dry], responses.height)
        return responses

    def _starting(self, initial: pl.DataFrame) -> pl.DataFrame:
        if self.start is None:  # round 1 begins with the initial responses themselves
            self.line("starting_responses", 0, 0, 0, causes={})
            return initial
        dry = self.dry(checkpoint_of(self.project, self.start))
        responses = stages.initial_responses(self.settings, initial.select(PROMPTS.names()), complete=dry)
        self.calls("starting_responses", [dry], responses.height, causes={f"{self.start.ref.id} is new": 1})
        return responses

    def _supervised(self, responses: pl.DataFrame) -> tuple[Checkpoint | None, pl.DataFrame, pl.DataFrame]:
        """The SL policy if it exists, the revisions, and the rows it is trained on."""
        dry = self.dry(critic(self.project, self.start).identity)
        critiques, revisions = stages.critiques_and_revisions(self.settings, self.constitution, responses, complete=dry)
        for asset, frame, steps in (("critiques", critiques, ("critique", "verdict")),
                                    ("revisions", revisions, ("revision",))):
            certain = sum(name in steps for name in dry.missing.values())
            waiting = planned(frame)
            possible = self._critique_calls(waiting) if asset == "critiques" else waiting.height
            self.line(asset, sum(dry.usage[s].reused for s in steps if s in dry.usage), certain, possible,
                       causes=self.row_causes(asset, _first_of_each_chain(waiting), "critique"))
        data = stages.supervised_rows(self.settings, responses, revisions).frame
        start = starting_policy(self.project, self.start).identity
        sl = self._training("sl_policy", "supervised", start, stages.supervised_training(data),
                            known=not planned(revisions).height and not planned(responses).height)
        return sl, revisions, data

    def _critique_calls(self, waiting: pl.DataFrame) -> int:
        """At most how many critiques and verdicts the waiting rows need; a row whose verdict is known has p_done."""
        asked = self.settings.critique
        verdicts = 0 if asked.stop_above is None else waiting["p_done"].null_count()
        return verdicts + (waiting.height if asked.mode == "critique" else 0)

    def _pairs(self, responses: pl.DataFrame, revisions: pl.DataFrame, sl: Checkpoint | None) -> pl.DataFrame:
        source = self.settings.pairs.source
        dry = self.dry("generator" if source == "generator" else sl)
        answered = responses.with_columns(response=pl.col("response").fill_null("?"))  # each gets a pair in the end
        pairs = stages.response_pairs(self.settings, answered, _settled(revisions), complete=dry)
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
        waiting = planned(pairs).height * calls_per_pair(self.settings.labels, self.constitution)
        asked = labels.filter(pl.col("error") == PLANNED)
        causes = self.row_causes("preference_pairs", _unanswered(asked), "preference")
        if waiting:
            causes = {"response_pairs are new": waiting, **causes}
        if gate:
            causes = {"the labeller's agreement with people is measured": gate, **causes}
        unread = sum(step == THOUGHT.name for step in dry.missing.values())  # an answer follows each thought
        certain = len(dry.missing)
        self.line("preference_pairs", dry.reused, certain, certain + unread + waiting, causes=causes)
        return labels

    def _reinforcement(
        self, sl: Checkpoint | None, reward: Checkpoint | None, pairs: pl.DataFrame, labels: pl.DataFrame,
        supervised: pl.DataFrame,
    ) -> Checkpoint | None:
        rl = self.settings.rl
        rows = labels if rl.algorithm == "dpo" else pairs
        by_labeller = rl.reward == "labeller"
        return self._training(
            "rl_policy", "reinforcement", sl and identify(sl.path, self.project.layout),
            stages.reinforcement_training(stages.reinforcement_rows(self.settings, self.constitution, rows)),
            known=rl.algorithm != "dpo" or not planned(labels).height,
            after=("sl_policy",) if by_labeller else ("sl_policy", "reward_model"),
            reward_model=None if by_labeller else reward,
            labeller=labeller(self.project).identity if by_labeller else None,
            supervised=None if rl.alpha is None else stages.supervised_training(supervised))

    def _training(
        self, asset: str, kind: Kind, base: ModelIdentity | None, rows: pl.DataFrame, *, known: bool = True,
        after: Sequence[str] = (), reward_model: Checkpoint | None = None, labeller: ModelIdentity | None = None,
        supervised: pl.DataFrame | None = None,
    ) -> Checkpoint | None:
        """``known``: the rows exist. ``after``: checkpoints it starts from; if one is new for certain, so is this."""
        above = {self.state(name) for name in after}
        known = (known and UNLESS not in above) or "train" in above
        found = None
        if known and base is not None and above <= {"reuse"}:
            key = stages.training_key(self.settings, kind, rows, base, supervised=supervised, labeller=labeller,
                                      reward_model=reward_model.key if reward_model else None)
            found = self.project.checkpoints.find(asset, key)
        rate = Rate() if found else training_rate(self.project.records, asset)
        changes = [] if found else self.changes(asset)
        self.lines.append(Line(
            asset, training="reuse" if found else "train" if known else UNLESS,
            causes=dict.fromkeys(changes, 1), note="" if known else "its key is known once the rows above exist",
            **cost_of(rate, 0 if found else 1, self.settings.price_per_gpu_hour)))
        return found


def _settled(revisions: pl.DataFrame) -> pl.DataFrame:
    """Without the texts of chains that wait for something: which of their revisions is the last is not known yet."""
    waits = pl.col("prompt_id").is_in(planned(revisions)["prompt_id"].to_list())
    return revisions.with_columns(revision=pl.when(~waits).then("revision"),
                                  error=pl.when(waits).then(pl.lit(PLANNED)).otherwise("error"))


def _unanswered(labels: pl.DataFrame) -> pl.DataFrame:
    """The principle of each question that waits for an answer; null where all principles are in one question."""
    return labels.select("votes").explode("votes", empty_as_null=True).unnest("votes").filter(pl.col("p_a").is_null())


def _first_of_each_chain(waiting: pl.DataFrame) -> pl.DataFrame:
    """A chain is generated again from its first missing row on: that row's principle is the cause."""
    return waiting.sort("prompt_id", "round").group_by("prompt_id", maintain_order=True).first()


