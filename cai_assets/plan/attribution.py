"""Before attribution: which derived versions can be compared already, and what the others would cost.

Guarantee: a derived version counts as measured only if it was made with the settings of the whole version, from the
newest of everything it was made from, and with the seed that it is meant to have; otherwise ``standing`` says why not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from cai_assets.assets import ATTRIBUTED, OWN, TO_ATTRIBUTE
from cai_assets.constitution.derive import Derived
from cai_assets.constitution.diff import diff
from cai_assets.constitution.model import Constitution
from cai_assets.evals.refusal import rule_of
from cai_assets.pipeline.absent import absent
from cai_assets.pipeline.contents import of_record, of_settings
from cai_assets.pipeline.project import Project
from cai_assets.plan.causes import setting_changes
from cai_assets.plan.plan import Plan, make_plan
from cai_assets.plan.touches import together
from cai_assets.store.records import Record, RecordMissing

CHAINS = ("critiques", "revisions")
NOT_MADE = "not made yet"
REFUSALS = {"suite_results", "evaluation"}  # what the rule of evals/refusal.py decides


@dataclass(frozen=True)
class Share:
    """Chains and steps of them, of red-team prompts, that a change touches; as shares."""

    chains: float
    steps: float


@dataclass(frozen=True)
class Cost:
    """What a version would still cost, at most. ``unknown``: assets of which this store has measured no rate yet."""

    chain_rows: int
    later_rows: int
    trainings: int
    seconds: float
    cost_usd: float | None
    unknown: tuple[str, ...]


NOTHING = Cost(0, 0, 0, 0.0, None, ())


@dataclass(frozen=True)
class Planned:
    """One derived version to make. ``why``: what it lacks, empty if it is measured; ``theory``: of many prompts."""

    derived: Derived
    why: str
    share: Share
    theory: Share
    cost: Cost

    def as_dict(self) -> dict[str, Any]:
        d = self.derived
        return {"kind": d.kind, "principle": d.principle, "seed": d.seed, "version": d.key, "kept": list(d.kept),
                "lacks": self.why, "share": asdict(self.share), "theory": asdict(self.theory), **asdict(self.cost)}


def plan_family(project: Project, version: str, derived: Sequence[Derived]) -> list[Planned]:
    """What each derived version would cost, with the project's settings. The whole version must be made."""
    whole = project.snapshots.load(version)
    critiques = critiques_of(project, version)
    return [_planned(project, version, d, touched(critiques, d),
                     expected(whole, d, project.settings.critique.rounds)) for d in derived]


def critiques_of(project: Project, version: str) -> pl.DataFrame:
    """The draws of a version's chains; none where its constitution has no critique requests."""
    if "critiques" in absent(project.snapshots.load(version)):
        return pl.DataFrame(schema={"prompt_id": pl.String, "round": pl.Int32, "principle_id": pl.String})
    return project.records.table(project.records.latest("critiques", version))


def _planned(project: Project, version: str, derived: Derived, share: Share, theory: Share) -> Planned:
    why = standing(project, version, derived)
    if not why:
        return Planned(derived, why, share, theory, NOTHING)
    seeded = Project(project.settings.model_copy(update={"seed": project.settings.seed + derived.seed}))
    return Planned(derived, why, share, theory, cost(make_plan(seeded, version, derived)))


def touched(critiques: pl.DataFrame, derived: Derived) -> Share:
    """By the draws of the whole version: a step is touched if it, or one before it in its chain, drew what is left out.

    ``critiques``: prompt_id, round and principle_id of the whole version. Leaving principles out moves their own draws
    and no others. What another seed samples is all new.
    """
    if derived.seed:
        return Share(1.0, 1.0)
    left = [p.id for p in derived.constitution.taking_part("critique")]
    steps = critiques.sort("prompt_id", "round").select("prompt_id", touched=(~pl.col("principle_id").is_in(left))
                                                        .cum_max().over("prompt_id"))
    chains = steps.group_by("prompt_id").agg(pl.col("touched").any())
    return Share(*(float(frame["touched"].mean() or 0.0) for frame in (chains, steps)))  # type: ignore[arg-type]


def expected(before: Constitution, derived: Derived, rounds: int) -> Share:
    """By theory (``plan/touches.py``): what ``touched`` tends to as prompts become many."""
    if derived.seed:
        return Share(1.0, 1.0)
    found = [t for t in together(diff(before, derived.constitution), rounds=rounds) if t.asset == "revisions"]
    return Share(found[0].chains or 0.0, found[0].rows or 0.0) if found else Share(0.0, 0.0)


def cost(plan: Plan) -> Cost:
    """The lines of a plan that are the version's own, added up."""
    lines = [line for line in plan.lines if line.asset in TO_ATTRIBUTE]
    rows = {line.asset: line.generate_max for line in lines}
    priced = [line.cost_usd for line in lines if line.cost_usd is not None]
    return Cost(sum(rows.get(asset, 0) for asset in CHAINS), sum(n for a, n in rows.items() if a not in CHAINS),
                sum(line.learns for line in lines), sum(line.seconds or 0.0 for line in lines),
                sum(priced) if priced else None, tuple(line.asset for line in lines if line.seconds is None))


def whole_standing(project: Project, version: str) -> str:
    """Why the whole version cannot be compared with as it is, with the project's settings; empty if it can."""
    try:
        records = _records(project, version, project.snapshots.load(version))
    except RecordMissing:
        return NOT_MADE
    now = of_settings(project.settings, project.layout)
    changes = [change for record in records for change in setting_changes(record, *now)]
    if changes:
        return f"made with other settings: {'; '.join(dict.fromkeys(changes))}"
    seed = _seed(project, records)
    if seed != project.settings.seed:
        return f"made with seed {seed} instead of {project.settings.seed}"
    return _older(project, records)


def standing(project: Project, version: str, derived: Derived) -> str:
    """Why a derived version cannot be compared with the whole one yet; empty if it can."""
    try:
        own, whole = (_records(project, key, derived.constitution) for key in (derived.key, version))
    except RecordMissing:
        return NOT_MADE
    changes = [c for mine, theirs in zip(own, whole, strict=True) for c in setting_changes(theirs, *of_record(mine))]
    if changes:
        return f"made with other settings: {'; '.join(dict.fromkeys(changes))}"
    mine, theirs = _seed(project, own), _seed(project, whole)
    if theirs is None or mine != theirs + derived.seed:
        return f"made with seed {mine}, but the whole version with {theirs}"
    rules = {a.asset: (rule_of(a.details), rule_of(b.details)) for a, b in zip(own, whole, strict=True)
             if a.asset in REFUSALS}
    if other := [asset for asset, (a, b) in rules.items() if a != b]:
        return f"refusals were found by another rule: materialize {other[0]} of both versions again"
    return _older(project, own)


def _records(project: Project, version: str, constitution: Constitution) -> list[Record]:
    gone = absent(constitution)
    return [project.records.latest(asset, version) for asset in ATTRIBUTED if asset not in gone]


def _seed(project: Project, records: Sequence[Record]) -> int | None:
    """The seed of the policy's training; None if its checkpoint is gone."""
    record = [r for r in records if r.asset in OWN][-1]
    found = project.checkpoints.find(record.asset, record.digest)
    return int(found.record["seed"]) if found else None


def _older(project: Project, records: Sequence[Record]) -> str:
    """The first asset that was made from something that has been materialized again since."""
    for record in records:
        for ref in record.inputs:
            if project.records.latest(ref.asset, ref.partition).digest != ref.digest:
                return f"{record.asset} was made from an older {ref.asset}"
    return ""
