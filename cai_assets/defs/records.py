"""An asset's output: its content, then its record, written last, and what Dagster shows of both."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import polars as pl

from cai_assets.assets import ASSETS
from cai_assets.defs.lineage_metadata import lineage_metadata, reached
from cai_assets.defs.metadata import against_plan, cost_metadata, fit_metadata, table_metadata
from cai_assets.defs.run import Run
from cai_assets.lineage.rollouts import ROLLOUTS, rollout_table
from cai_assets.lineage.trace import write_lineage
from cai_assets.lineage.training_rows import training_table
from cai_assets.pipeline.contents import CONTENTS, of_settings
from cai_assets.pipeline.spending import gpus
from cai_assets.pipeline.trainings import Training
from cai_assets.plan.rates import PARAMETERS, model_size
from cai_assets.reports.summary import TOLD
from cai_assets.steps.reasons import reason_line
from cai_assets.steps.usage import Usage, total
from cai_assets.store.canonical import digest_file
from cai_assets.store.checkpoints import Checkpoint
from cai_assets.store.provenance import provenance
from cai_assets.store.published import RECORD
from cai_assets.store.records import Record, RecordMissing
from cai_assets.store.tables import Parts, Table
from cai_assets.train.fit import too_long


@dataclass(frozen=True, kw_only=True)
class Content:
    """What was made. ``path``: under the data root; ``settings``: the groups that were read, if not those declared;
    ``seconds``: that it took, if not all since the run began."""

    asset: str
    digest: str
    path: str
    rows: int | None = None
    usage: Usage = field(default_factory=Usage)
    settings: Sequence[str] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None


class Trained(NamedTuple):
    """A checkpoint that was trained, or found: ``reused``. ``rows``: where the table of its training rows lies."""

    checkpoint: Checkpoint
    reused: bool
    seconds: float
    rows: str


def draft(run: Run, content: Content) -> Record:
    """The record of what a run made, not written yet."""
    usage = content.usage
    groups = ASSETS[content.asset].settings if content.settings is None else content.settings
    held = of_settings(run.settings, run.project.layout, groups).contents
    return Record(
        asset=content.asset, partition=run.version, digest=content.digest, path=content.path, inputs=run.inputs,
        constitution=run.version, rows=content.rows, reused=usage.reused, generated=usage.generated,
        failed=usage.failed, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens,
        seconds=time.monotonic() - run.start if content.seconds is None else content.seconds,
        gpu_seconds=usage.seconds * gpus(run.settings, content.asset) if ASSETS[content.asset].spends else 0.0,
        settings={group: getattr(run.settings, group).model_dump(mode="json") for group in groups},
        details={"errors": usage.errors, "refused": usage.refused, "engine_seconds": usage.seconds,
                 "seed": run.settings.seed, **({CONTENTS: held} if held else {}), **_size(run, content, usage),
                 **({"adapted": usage.adapted} if usage.adapted else {}),
                 **({"servers": usage.servers} if usage.servers else {}), **content.details},
        provenance=provenance(), run_id=run.context.run.run_id,
    )


def _size(run: Run, content: Content, usage: Usage) -> dict[str, int]:
    """How large the model is that answered, by which later plans scale what it took."""
    size = model_size(run.project, content.asset) if usage.generated else 0
    return {PARAMETERS: size} if size else {}


def keep_training_rows(run: Run, training: Training) -> str:
    """Store which rows a checkpoint is trained on, for its record and its lineage; return where."""
    return beside(run, "training_rows", training_table(training.rows, training.labels))


def keep_lineage(run: Run, training: Training, rows: str, key: str, folder: Path) -> None:
    """Write what a checkpoint comes from, to lie beside its weights: so it can be traced wherever it is copied."""
    path = run.project.layout.relative(run.project.checkpoints.path(training.asset, key))
    details = {"training_rows": rows, "base_name": training.start.name, "base": training.start.identity.weights}
    record = draft(run, Content(asset=training.asset, digest=key, path=path, details=details))
    write_lineage(folder, run.project.layout, record)


def keep_rollouts(run: Run, training: Training, key: str, path: Path) -> dict[str, str]:
    """Store what the policy said while it was trained and what each principle said of it, if that was written down."""
    if not path.exists():
        return {}
    return {ROLLOUTS: beside(run, ROLLOUTS, rollout_table(path, training.rows, key))}


def keep(run: Run, asset: str, parts: Parts) -> Table:
    """Store a table that comes in parts, for ``store_table`` to record."""
    (made,) = keep_all(run, [asset], ((part,) for part in parts))
    return made


def keep_all(run: Run, assets: Sequence[str], rows: Iterable[tuple[pl.DataFrame, ...]]) -> list[Table]:
    """As ``keep``, of several tables that are made together."""
    return run.project.records.save_tables(assets, rows)


def store_table(
    run: Run, asset: str, content: Table | pl.DataFrame, *, settings: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None, details: Mapping[str, Any] | None = None, step: str | None = None,
) -> dg.MaterializeResult[None]:
    """Store the table, then its record; the content digest is the data version.

    ``settings``: as of ``Content``; ``step``: count only this step's calls, where two assets are made together.
    """
    usage = run.usage.get(step, Usage()) if step else total(run.usage.values())
    _tell_failures(run, usage)
    made = content if isinstance(content, Table) else keep(run, asset, [content])
    record = run.project.records.add(draft(run, Content(
        asset=asset, digest=made.digest, path=run.project.layout.relative(made.path), rows=made.height, usage=usage,
        settings=settings, details={**(details or {}), **_told(run)}, seconds=usage.seconds if step else None)))
    return _result(record, {**(metadata or {}), **cost_metadata(record, run.settings),
                            **against_plan(record, _plan(run)), **table_metadata(record, made)})


def _tell_failures(run: Run, usage: Usage) -> None:
    """Say how many calls failed and why; if all did, there is nothing to go on with, and the asset fails."""
    calls = usage.reused + usage.generated + usage.failed
    line = reason_line(usage.failed, calls, "calls failed", usage.errors)
    if line and usage.failed == calls:
        raise dg.Failure(line, allow_retries=False)
    run.tell(line)


def _told(run: Run) -> dict[str, list[str]]:
    """What was told of this asset, for its record; the next one of this run begins anew."""
    told, run.told = run.told, []
    return {TOLD: told} if told else {}


def beside(run: Run, name: str, frame: pl.DataFrame) -> str:
    """Store a further table for the details of a record; return its path as these have it."""
    return run.project.layout.relative(run.project.records.save_table(name, frame)[1])


def file_of(run: Run, path: str) -> dg.MetadataValue[Any]:
    """Where a table of ``beside`` lies, for Dagster."""
    return dg.MetadataValue.path(str(run.project.layout.absolute(path)))


def record_checkpoint(
    run: Run, asset: str, done: Trained, *, rows: int, metadata: Mapping[str, Any],
    details: Mapping[str, Any] | None = None,
) -> dg.MaterializeResult[None]:
    """Write the record of a checkpoint; its key is the data version, because training is not bit-reproducible."""
    checkpoint = done.checkpoint
    run.tell(too_long(checkpoint.metrics))
    facts = {"reused_checkpoint": done.reused, "metrics": checkpoint.metrics, "training_rows": done.rows,
             "checkpoint_record": digest_file(checkpoint.path / RECORD), **(details or {}),
             **{name: checkpoint.record[name] for name in (ROLLOUTS,) if name in checkpoint.record}}
    record = run.project.records.add(draft(run, Content(
        asset=asset, digest=checkpoint.key, path=run.project.layout.relative(checkpoint.path), rows=rows,
        usage=Usage(seconds=done.seconds), details={**facts, **_told(run)})))
    if record.partition:
        run.context.log_event(reached(record, checkpoint))
    return _result(record, {
        "checkpoint": dg.MetadataValue.path(str(checkpoint.path)), "key": checkpoint.key,
        "training": "reused" if done.reused else "trained", "training_rows": rows,
        **fit_metadata(checkpoint), **metadata,
        **lineage_metadata(record, checkpoint), **cost_metadata(record, run.settings),
        **against_plan(record, _plan(run))})


def record_snapshot(
    run: Run, digest: str, path: str, *, metadata: Mapping[str, Any], details: Mapping[str, Any]
) -> dg.MaterializeResult[None]:
    """Write the record of the constitution asset, whose content is a stored snapshot."""
    content = Content(asset="constitution", digest=digest, path=path, details=details)
    return _result(run.project.records.add(draft(run, content)), metadata)


def _plan(run: Run) -> dict[str, Any] | None:
    """The plan that the constitution's newest materialization made, if this asset has a version."""
    if run.version is None:
        return None
    try:
        plan: dict[str, Any] | None = run.project.records.latest("constitution", run.version).details.get("plan")
    except RecordMissing:
        return None
    return plan


def _result(record: Record, metadata: Mapping[str, Any]) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(
        asset_key=record.asset, data_version=dg.DataVersion(record.digest),
        # The record is not a tag: those end at 63 characters, a key at 100.
        metadata={**_page(record), **metadata, "record": record.ref.id},
    )


def _page(record: Record) -> dict[str, Any]:
    told = record.details.get(TOLD, [])
    return {TOLD: dg.MetadataValue.text("\n".join(told))} if told else {}
