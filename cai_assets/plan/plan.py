"""The plan of one constitution version: for each asset what is reused, generated and trained, and why.

It runs the stages themselves with a completer that only looks keys up (``dry.py``). Where a number depends on a text
or a checkpoint that does not exist yet, the plan gives bounds and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import polars as pl

from cai_assets import stages
from cai_assets.constitution.model import Constitution, Use
from cai_assets.engines.models import identify, prepare
from cai_assets.engines.protocol import ModelIdentity
from cai_assets.lineage.checkpoints import Checkpoint
from cai_assets.lineage.provenance import gpu_count
from cai_assets.lineage.records import Record, RecordMissing
from cai_assets.plan.causes import principle_causes, row_causes, setting_changes
from cai_assets.plan.dry import PLANNED, DryCompleter
from cai_assets.plan.rates import Rate, row_rate, training_rate
from cai_assets.project import Project
from cai_assets.settings import Model, Role
from cai_assets.start import checkpoint_of, critic, labeller, round_before, starting_policy
from cai_assets.steps.pair import calls_per_prompt
from cai_assets.steps.prompts import SCHEMA as PROMPTS
from cai_assets.steps.prompts import load_prompts, select
from cai_assets.steps.questions import calls_per_pair
from cai_assets.steps.thought import THOUGHT
from cai_assets.train.job import Kind

UNLESS: Literal["train unless unchanged"] = "train unless unchanged"

@dataclass(frozen=True)
class Line:
    """One asset. ``generate_min`` calls are certain; up to ``generate_max`` are possible. Seconds are of this store's
    own measured rates (mean, and the smallest and largest seen), None where nothing was measured yet."""

    asset: str
    reuse: int = 0
    generate_min: int = 0
    generate_max: int = 0
    training: str = ""  # reuse, train, or "train unless unchanged"; empty: not a checkpoint
    tokens: float | None = None
    seconds: float | None = None
    seconds_low: float | None = None
    seconds_high: float | None = None
    gpu_seconds: float | None = None
    cost_usd: float | None = None
    causes: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Plan:
    version: str
    compared_with: str | None
    lines: tuple[Line, ...]

    def line(self, asset: str) -> Line:
        return next(x for x in self.lines if x.asset == asset)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def make_plan(project: Project, version: str) -> Plan:
    """Plan a registered version with the project's settings. Starts no engine and writes no record."""
    return _Planner(project, version).run()


def version_before(project: Project, version: str) -> str | None:
    """The newest materialised version of the same constitution, other than this one."""
    name = project.snapshots.load(version).name
    made = [r for r in project.records.every("critiques") if r.partition and r.partition != version]
    same = [r for r in made if project.snapshots.load(str(r.partition)).name == name]
    newest = max(same, key=lambda r: r.created, default=None)
    return newest.partition if newest else None


class _Planner:
    def __init__(self, project: Project, version: str) -> None:
        self.project, self.version = project, version
        self.settings = project.settings
        self.constitution = project.snapshots.load(version)
        self.before = version_before(project, version)
        self.start = round_before(project, version)
        self.lines: list[Line] = []
        self._dump = self.settings.model_dump(mode="json")
        self._changed: dict[str, list[str]] = {}

    def run(self) -> Plan:
        s = self.settings
        initial = self._initial()
        baseline = self._training("sft_baseline", "supervised", self._base(),
                                  stages.supervised_training(stages.baseline_rows(s, initial)),
                                  known=not _planned(initial).height)
        responses = self._starting(initial)
        sl, revisions = self._supervised(responses)
        pairs = self._pairs(responses, revisions, sl)
        labels = self._labels(pairs)
        reward = self._training("reward_model", "reward", self._base(),
                                stages.reward_training(stages.reward_comparisons(s, labels, responses).frame),
                                known=not _planned(labels).height)
        rl = self._reinforcement(sl, reward, pairs, labels, stages.supervised_rows(s, responses, revisions).frame)
        self._evaluation(responses, {"sft_baseline": baseline, "sl_policy": sl, "rl_policy": rl})
        return Plan(self.version, self.before, tuple(self.lines))

    # One method for each part of the graph.

    def _initial(self) -> pl.DataFrame:
        p = self.settings.prompts
        prompts = select(load_prompts(p.paths, max_chars=p.max_chars).frame, p, seed=self.settings.seed)
        dry = self._dry("generator")
        responses = stages.initial_responses(self.settings, prompts, complete=dry)
        self._calls("initial_responses", [dry], responses.height)
        return responses

    def _starting(self, initial: pl.DataFrame) -> pl.DataFrame:
        if self.start is None:  # round 1 begins with the initial responses themselves
            self._line("starting_responses", 0, 0, 0, causes={})
            return initial
        dry = self._dry(checkpoint_of(self.project, self.start))
        responses = stages.initial_responses(self.settings, initial.select(PROMPTS.names()), complete=dry)
        self._calls("starting_responses", [dry], responses.height, causes={f"{self.start.ref.id} is new": 1})
        return responses

    def _supervised(self, responses: pl.DataFrame) -> tuple[Checkpoint | None, pl.DataFrame]:
        dry = self._dry(critic(self.project, self.start).identity)
        critiques, revisions = stages.critiques_and_revisions(self.settings, self.constitution, responses, complete=dry)
        for asset, frame, steps in (("critiques", critiques, ("critique", "verdict")),
                                    ("revisions", revisions, ("revision",))):
            certain = sum(name in steps for name in dry.missing.values())
            waiting = _planned(frame)
            possible = self._critique_calls(waiting) if asset == "critiques" else waiting.height
            self._line(asset, sum(dry.usage[s].reused for s in steps if s in dry.usage), certain, possible,
                       causes=self._causes(asset, _first_of_each_chain(waiting), "critique"))
        data = stages.supervised_rows(self.settings, responses, revisions).frame
        start = starting_policy(self.project, self.start).identity
        sl = self._training("sl_policy", "supervised", start, stages.supervised_training(data),
                            known=not _planned(revisions).height and not _planned(responses).height)
        return sl, revisions

    def _critique_calls(self, waiting: pl.DataFrame) -> int:
        """At most how many critiques and verdicts the waiting rows need; a row whose verdict is known has p_done."""
        asked = self.settings.critique
        verdicts = 0 if asked.stop_above is None else waiting["p_done"].null_count()
        return verdicts + (waiting.height if asked.mode == "critique" else 0)

    def _pairs(self, responses: pl.DataFrame, revisions: pl.DataFrame, sl: Checkpoint | None) -> pl.DataFrame:
        source = self.settings.pairs.source
        dry = self._dry("generator" if source == "generator" else sl)
        answered = responses.with_columns(response=pl.col("response").fill_null("?"))  # each gets a pair in the end
        pairs = stages.response_pairs(self.settings, answered, _settled(revisions), complete=dry)
        calls = calls_per_prompt(self.settings.pairs) * pairs["prompt_id"].n_unique()
        known = not _planned(responses).height if source == "generator" else self._state("sl_policy") != UNLESS
        new = {"policy": "sl_policy is new" if not sl else "", "generator": "" if known else "prompts are new"}
        cause = new.get(source)
        self._calls("response_pairs", [dry], calls, certain=known, causes={cause: calls} if cause else {})
        return pairs

    def _labels(self, pairs: pl.DataFrame) -> pl.DataFrame:
        dry = self._dry("labeller")
        stages.judge_gate(self.settings, self.constitution, complete=dry)
        gate = len(dry.missing)
        labels = stages.preference_pairs(self.settings, self.constitution, pairs, complete=dry)
        waiting = _planned(pairs).height * calls_per_pair(self.settings.labels, self.constitution)
        asked = labels.filter(pl.col("error") == PLANNED)
        causes = self._causes("preference_pairs", _unanswered(asked), "preference")
        if waiting:
            causes = {"response_pairs are new": waiting, **causes}
        if gate:
            causes = {"the labeller's agreement with people is measured": gate, **causes}
        unread = sum(step == THOUGHT.name for step in dry.missing.values())  # an answer follows each thought
        certain = len(dry.missing)
        self._line("preference_pairs", dry.reused, certain, certain + unread + waiting, causes=causes)
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
            known=rl.algorithm != "dpo" or not _planned(labels).height,
            after=("sl_policy",) if by_labeller else ("sl_policy", "reward_model"),
            reward_model=None if by_labeller else reward,
            labeller=labeller(self.project).identity if by_labeller else None,
            supervised=None if rl.alpha is None else stages.supervised_training(supervised))

    def _evaluation(self, responses: pl.DataFrame, trained: Mapping[str, Checkpoint | None]) -> None:
        prompts = stages.evaluation_prompts(responses)
        dries = {"base": self._dry("policy"), **{name: self._dry(c) for name, c in trained.items()}}
        frames = {name: stages.policy_responses(self.settings, prompts, complete=dry, policy=name)
                  for name, dry in dries.items()}
        judge = self._dry("judge")
        _, rows = stages.judged(self.settings, self.constitution, frames, complete=judge)
        asked = 4 if self.constitution.taking_part("evaluation") else 2  # two questions or one, each in both orders
        unknown = sum(_planned(frame).height for frame in frames.values())
        compared = sum(_planned(f.join(frames["base"], on="prompt_id", suffix="_base").with_columns(
            error=pl.coalesce("error", "error_base"))).height for n, f in frames.items() if n != "base")
        known = [dries[name] for name in dries if name == "base" or trained[name]]
        certain = sum(len(d.missing) for d in [*known, judge])
        reuse = sum(d.reused for d in [*dries.values(), judge])
        new = {f"{name} is new": prompts.height for name, c in trained.items() if c is None}
        possible = unknown + len(judge.missing) + asked * compared
        changes = dict.fromkeys(self._changes("evaluation"), possible)
        waiting = rows.filter(pl.col("adherence_error").fill_null("").str.contains(PLANNED, literal=True))
        drew = principle_causes(waiting, self._constitution_before(), self.constitution, "evaluation")
        self._line("evaluation", reuse, certain, possible, causes={**new, **(changes or drew)})

    def _training(
        self, asset: str, kind: Kind, base: ModelIdentity | None, rows: pl.DataFrame, *, known: bool = True,
        after: Sequence[str] = (), reward_model: Checkpoint | None = None, labeller: ModelIdentity | None = None,
        supervised: pl.DataFrame | None = None,
    ) -> Checkpoint | None:
        """``known``: the rows exist. ``after``: checkpoints it starts from; if one is new for certain, so is this."""
        above = {self._state(name) for name in after}
        known = (known and UNLESS not in above) or "train" in above
        found = None
        if known and base is not None and above <= {"reuse"}:
            key = stages.training_key(self.settings, kind, rows, base, supervised=supervised, labeller=labeller,
                                      reward_model=reward_model.key if reward_model else None)
            found = self.project.checkpoints.find(asset, key)
        rate = Rate() if found else training_rate(self.project.records, asset)
        changes = [] if found else self._changes(asset)
        self.lines.append(Line(
            asset, training="reuse" if found else "train" if known else UNLESS,
            causes=dict.fromkeys(changes, 1), note="" if known else "its key is known once the rows above exist",
            **_cost(rate, 0 if found else 1, self.settings.price_per_gpu_hour)))
        return found

    # Helpers.

    def _state(self, asset: str) -> str:
        return next(x.training for x in self.lines if x.asset == asset)

    def _dry(self, who: Role | Checkpoint | ModelIdentity | None) -> DryCompleter:
        return DryCompleter(self._identity(who), self.project.store, seed=self.settings.seed)

    def _identity(self, who: Role | Checkpoint | ModelIdentity | None) -> ModelIdentity:
        if isinstance(who, ModelIdentity):
            return who
        if who is None:  # a checkpoint that does not exist: no stored row can be its
            return ModelIdentity(weights="not trained yet", tokenizer="", template="")
        if isinstance(who, Checkpoint):
            return self.project.engines.open_checkpoint(who.path).identity
        return self.project.engines.open(self.settings.models.role(who)).identity

    def _base(self) -> ModelIdentity:
        model: Model = self.settings.models.role("policy")
        return prepare(model, self.project.layout).identity

    def _calls(self, asset: str, dries: Sequence[DryCompleter], total: int, *, certain: bool = True,
               causes: Mapping[str, int] | None = None) -> None:
        missing = sum(len(d.missing) for d in dries)
        changes = dict.fromkeys(self._changes(asset), missing) if missing else {}
        self._line(asset, total - missing, missing if certain else 0, missing, causes={**(causes or {}), **changes})

    def _line(self, asset: str, reuse: int, certain: int, possible: int, *, causes: Mapping[str, int]) -> None:
        cost = _cost(row_rate(self.project.records, asset), possible, self.settings.price_per_gpu_hour)
        note = "" if certain == possible else "bounds: the rest depends on texts that do not exist yet"
        self.lines.append(Line(asset, reuse, certain, possible, causes=causes if possible else {}, note=note, **cost))

    def _causes(self, asset: str, waiting: pl.DataFrame, use: Use) -> dict[str, int]:
        return row_causes(waiting, self._changes(asset), self._constitution_before(), self.constitution, use)

    def _changes(self, asset: str) -> list[str]:
        """Settings that differ from those the asset was last made with."""
        if asset not in self._changed:
            self._changed[asset] = setting_changes(self._earlier(asset), self._dump)
        return self._changed[asset]

    def _constitution_before(self) -> Constitution | None:
        return self.project.snapshots.load(self.before) if self.before else None

    def _earlier(self, asset: str) -> Record | None:
        """What to compare settings with: this version's newest record, or the version before's."""
        for partition in (None, self.version, self.before):
            try:
                return self.project.records.latest(asset, partition)
            except RecordMissing:
                continue
        return None


def _planned(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows that wait for something not generated yet."""
    return frame.filter(pl.col("error").fill_null("").str.contains(PLANNED, literal=True))


def _settled(revisions: pl.DataFrame) -> pl.DataFrame:
    """Without the texts of chains that wait for something: which of their revisions is the last is not known yet."""
    waits = pl.col("prompt_id").is_in(_planned(revisions)["prompt_id"].to_list())
    return revisions.with_columns(revision=pl.when(~waits).then("revision"),
                                  error=pl.when(waits).then(pl.lit(PLANNED)).otherwise("error"))


def _unanswered(labels: pl.DataFrame) -> pl.DataFrame:
    """The principle of each question that waits for an answer; null where all principles are in one question."""
    return labels.select("votes").explode("votes", empty_as_null=True).unnest("votes").filter(pl.col("p_a").is_null())


def _first_of_each_chain(waiting: pl.DataFrame) -> pl.DataFrame:
    """A chain is generated again from its first missing row on: that row's principle is the cause."""
    return waiting.sort("prompt_id", "round").group_by("prompt_id", maintain_order=True).first()


def _cost(rate: Rate, units: int, price: float | None) -> dict[str, Any]:
    def times(value: float | None) -> float | None:
        return 0.0 if units == 0 else None if value is None else value * units

    seconds = times(rate.seconds)
    gpu = None if seconds is None else seconds * gpu_count()
    return {"tokens": times(rate.tokens), "seconds": seconds, "seconds_low": times(rate.low),
            "seconds_high": times(rate.high), "gpu_seconds": gpu,
            "cost_usd": None if gpu is None or price is None else gpu / 3600 * price}
