"""What a row or a training will cost: as measured in this store, changed as settings and sizes have changed since; by a
table of devices where nothing was measured (``devices.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from cai_assets.engines.models import ModelError, prepare
from cai_assets.engines.number_format import device
from cai_assets.engines.pool import resolve_backend
from cai_assets.engines.weights import parameters
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.spending import TRAINED_BY, asked, gpus
from cai_assets.plan.devices import SPREAD, speed
from cai_assets.registry.engines import BACKENDS
from cai_assets.settings import Settings, Training
from cai_assets.store.records import Record
from cai_assets.train.job import TrainingKind
from cai_assets.train.work import Amount, training_amount

PARAMETERS = "parameters"  # in a record's details: of the model that answered
DECODED = 2  # what a token costs that is written, in tokens that are read
KINDS: dict[str, TrainingKind] = {"mid": "texts", "sl": "supervised", "reward": "reward", "rl": "reinforcement"}


@dataclass(frozen=True)
class Rate:
    """Seconds and tokens per unit (a row, or a training), over ``measured`` materializations; 0: by the table.

    ``low`` and ``high`` bound the seconds; all are None where nothing is known. ``tokens``: written, of a row; trained
    on, of a training. ``prompt``: read, of a row.
    """

    measured: int = 0
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    tokens: float | None = None
    prompt: float | None = None


def row_rate(project: Project, asset: str) -> Rate:
    """Cost per generated row of an asset, from every materialization that generated some."""
    made = [r for r in project.records.every(asset) if r.generated and r.details.get("engine_seconds")]
    size = model_size(project, asset)
    if not made:
        return _row_by_table(project, asset, size)
    rows = sum(r.generated for r in made)
    scaled = [(r, _larger(r, size), _longer(r, project.settings)) for r in made]
    each = [r.details["engine_seconds"] / r.generated * larger * longer for r, larger, longer in scaled]
    seconds = sum(one * r.generated for one, r in zip(each, made, strict=True)) / rows
    low = min(one / max(1.0, longer) for one, (_, _, longer) in zip(each, scaled, strict=True))
    tokens = sum(r.completion_tokens * longer for r, _, longer in scaled) / rows
    return Rate(len(made), seconds, low, max(each), tokens, sum(r.prompt_tokens for r in made) / rows)


def training_rate(project: Project, asset: str, amount: Amount | None = None) -> Rate:
    """Cost of one training of an asset. ``amount``: what it computes; without it, as much as those before."""
    every = [r for r in project.records.every(asset) if r.details.get("reused_checkpoint") is False]
    if not every:
        return _training_by_table(project, asset, amount)
    times = [r.details["engine_seconds"] * _more(project, r, amount) for r in every]
    return Rate(len(every), sum(times) / len(times), min(times), max(times), amount.tokens if amount else None)


def model_size(project: Project, asset: str) -> int:
    """Parameters of the model that answers most of an asset's calls; 0 if it is not here."""
    model = asked(project.settings, asset)
    if model is None or not BACKENDS[resolve_backend(model)].in_process:
        return 0
    try:
        return parameters(prepare(model, project.layout).path)
    except (ModelError, OSError):  # which the run will say
        return 0


def longest(settings: Mapping[str, Any]) -> int | None:
    """The most tokens that a call writes, by the settings of a record or of now; None where none is written."""
    labels = settings.get("labels")
    if labels is not None:
        return int(labels["thought_tokens"]) if labels.get("chain_of_thought") else None
    group = settings.get("evaluation") or settings.get("generation")
    return int(group["max_tokens"]) if group and "max_tokens" in group else None


def _longer(record: Record, settings: Settings) -> float:
    """How much longer a row's text may be than it was: as its limit is."""
    before = longest(record.settings)
    now = longest({name: getattr(settings, name).model_dump() for name in record.settings if hasattr(settings, name)})
    return now / before if before and now else 1.0


def _larger(record: Record, size: int) -> float:
    before = record.details.get(PARAMETERS)
    return size / before if before and size else 1.0


def _more(project: Project, record: Record, amount: Amount | None) -> float:
    """How much more a training computes than one before did."""
    before = _amount_of(project, record)
    return amount.operations / before.operations if amount and before and before.operations else 1.0


def _amount_of(project: Project, record: Record) -> Amount | None:
    """What an earlier training computed, by its settings; None if they cannot be read any more."""
    name = TRAINED_BY[record.asset]
    kind: type[Training] = type(getattr(project.settings, name))
    try:
        group = kind.model_validate(record.settings[name])
    except (KeyError, ValidationError):
        return None
    size = parameters(project.layout.absolute(record.path)) or 0
    metrics = record.details.get("metrics", {})
    known = metrics["tokens"] / metrics["rows"] if metrics.get("tokens") and metrics.get("rows") else group.max_length
    by = len(list(filter(None, metrics.get("principles", {}).get("own", {}))))  # "": by all together
    return training_amount(size, group, KINDS[name], record.rows or 0, known, by) if size and record.rows else None


def _row_by_table(project: Project, asset: str, size: int) -> Rate:
    settings, cap = project.settings, None
    if size:
        cap = longest({name: getattr(settings, name).model_dump() for name in ("generation",)})
    if not cap:
        return Rate()
    prompt = float(cap)
    work = 2 * size * (prompt + DECODED * cap)
    seconds = work / speed(device(), max(1, gpus(settings, asset))).sampling
    return Rate(0, seconds, seconds / SPREAD, seconds * SPREAD, float(cap), prompt)


def _training_by_table(project: Project, asset: str, amount: Amount | None) -> Rate:
    if amount is None or not amount.operations:
        return Rate()
    elsewhere = _speeds(project, asset)
    if elsewhere:
        times = [amount.operations / one for one in elsewhere]
        return Rate(len(times), sum(times) / len(times), min(times) / SPREAD, max(times) * SPREAD, amount.tokens)
    seconds = amount.operations / speed(device(), max(1, gpus(project.settings, asset))).training
    return Rate(0, seconds, seconds / SPREAD, seconds * SPREAD, amount.tokens)


def _speeds(project: Project, asset: str) -> Sequence[float]:
    """Operations a second of this store's other trainings."""
    others = [r for name in TRAINED_BY if name != asset for r in project.records.every(name)
              if r.details.get("reused_checkpoint") is False and r.details.get("engine_seconds")]
    amounts = [(r, _amount_of(project, r)) for r in others]
    return [amount.operations / r.details["engine_seconds"] for r, amount in amounts if amount and amount.operations]
