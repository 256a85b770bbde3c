"""AI feedback versus human feedback: speed, cost and agreement, as a table (Lee et al. 2023, appendix L, prices it).

Guarantee: each line says what its numbers rest on. What was measured names its count; what was not is called an
assumption, with the setting that holds it; what is not known is left open and never filled in.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl

from cai_assets.evals.gate import GateResult
from cai_assets.evals.statistics import Estimate, proportion
from cai_assets.pipeline.project import Project
from cai_assets.reports.text.tables import table
from cai_assets.store.records import Record

UNKNOWN = "not known"


class Line(NamedTuple):
    """One quantity, for the AI labeler and for people, and what both rest on."""

    quantity: str
    ai: str
    people: str
    basis: str


class Speed(NamedTuple):
    """``labels_per_second``, the engine's start included, over ``labels`` labels; ``gpus`` (0: processors alone)."""

    labels_per_second: float
    labels: float
    gpus: float


def feedback_table(project: Project, version: str) -> list[Line]:
    """The table of one version. Raise RecordMissing if its labels were never made."""
    record = project.records.latest("preference_pairs", version)
    labels = project.records.table(record)
    speed = measured_speed(project.records.every("preference_pairs"), version)
    return [*_speed_and_cost(project, speed), *_quality(project, record, labels)]


def measured_speed(records: list[Record], version: str) -> Speed | None:
    """From the newest materialization that asked the labeler, of this version if there is one; None if none did.

    A label takes several calls. How many comes from the same record: all its calls over all it labeled, the pairs of
    the judge gate included, for they are asked in the same way.
    """
    billed = [r for r in records if r.generated and r.details.get("engine_seconds")]
    newest = max(billed, key=lambda r: (r.partition == version, r.created), default=None)
    if newest is None:
        return None
    pairs = (newest.rows or 0) + newest.details.get("gate", {}).get("n", 0)
    calls = newest.reused + newest.generated + newest.failed
    labels = newest.generated * pairs / calls
    seconds = newest.details["engine_seconds"]
    return Speed(labels / seconds, labels, newest.gpu_seconds / seconds)


def markdown(lines: list[Line]) -> str:
    """The table as markdown."""
    return table(("quantity", "AI labeler", "people", "based on"), lines)


def as_json(lines: list[Line]) -> list[dict[str, Any]]:
    """The table as plain objects."""
    return [line._asdict() for line in lines]


def _speed_and_cost(project: Project, speed: Speed | None) -> list[Line]:
    settings = project.settings
    people = settings.human_labels_per_hour / 3600
    assumed = f"people: assumption human_labels_per_hour={settings.human_labels_per_hour:g}"
    if speed is None:
        ours, machine = "AI: no run has used the labeler in this store", ""
    else:
        machine = f"{speed.gpus:g} GPUs" if speed.gpus else "no GPU"
        ours = f"AI: measured over {speed.labels:.0f} labels with {machine}"
    return [
        Line("labels per second", _number(speed and speed.labels_per_second), _number(people), f"{ours}; {assumed}"),
        Line("cost of 1,000 labels", _ai_cost(speed, settings.price_per_gpu_hour),
             _cost(people, settings.price_per_human_hour), _prices(project, speed)),
    ]


def _prices(project: Project, speed: Speed | None) -> str:
    settings = project.settings
    facts = [f"{name}={value:g}" if value is not None else f"{name} is not set"
             for name, value in (("price_per_gpu_hour", settings.price_per_gpu_hour),
                                 ("price_per_human_hour", settings.price_per_human_hour))]
    note = "; ran without a GPU: the price is for an hour of that machine" if speed and not speed.gpus else ""
    return f"the speeds above; prices are assumptions: {', '.join(facts)}{note}"


def _ai_cost(speed: Speed | None, price: float | None) -> str:
    return UNKNOWN if speed is None or price is None else _cost(speed.labels_per_second / (speed.gpus or 1), price)


def _cost(per_second: float, price: float | None) -> str:
    return UNKNOWN if price is None else f"{1000 / per_second / 3600 * price:.4g}"


def _quality(project: Project, record: Record, labels: pl.DataFrame) -> list[Line]:
    graded = labels.filter(pl.col("p_a").is_not_null())
    agree = graded.filter(pl.col("label") != "tie").height
    confidence = project.settings.evaluation.confidence
    ungraded = proportion(labels.height - graded.height, labels.height, confidence)
    people = "people were not asked twice"
    return [
        Line("same label after a swap", str(proportion(agree, graded.height, confidence)), UNKNOWN,
             f"AI: measured on this version's pairs; {people}"),
        Line("ungraded", str(ungraded), UNKNOWN, "AI: measured on this version's pairs, including identical ones"),
        *_agreement(record),
    ]


def _agreement(record: Record) -> list[Line]:
    if "gate" not in record.details:
        return [Line("agreement with people", UNKNOWN, UNKNOWN, "these labels were generated without a judge gate")]
    gate = GateResult.model_validate(record.details["gate"])
    basis = f"AI: measured by the judge gate on {gate.n} human comparisons; agreement between people: not measured"
    shares: list[tuple[str, Estimate]] = [
        ("agreement with people", gate.accuracy_debiased), ("the same, first order alone", gate.accuracy_first),
        ("the same, second order alone", gate.accuracy_second), ("human comparisons: same after a swap",
                                                                 gate.consistency)]
    return [Line(name, str(value), UNKNOWN, basis) for name, value in shares]


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4g}"
