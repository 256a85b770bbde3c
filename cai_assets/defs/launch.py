"""Training as a child process under Dagster Pipes, in its own process group.

Its log lines reach the UI as they are written. However the step ends (done, failed, terminated in the UI),
the whole group is stopped, so no trainer is left behind with the GPU. A finished checkpoint with the same key
is reused; an unfinished one resumes from its last saved state.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from cai_assets.defs.losses import refuse_losses
from cai_assets.defs.records import Trained, keep_lineage, keep_rollouts, keep_training_rows
from cai_assets.defs.run import Run
from cai_assets.lineage.rollouts import ROLLOUTS_WRITTEN
from cai_assets.lineage.trace import LINEAGE, LINEAGE_ROWS
from cai_assets.pipeline.trainings import Training
from cai_assets.reports.checkpoint import checkpoint_card
from cai_assets.reports.text.coverage import coverage_line
from cai_assets.settings import Settings, project_root
from cai_assets.store.files import write_atomic
from cai_assets.store.parquet import parquet_bytes
from cai_assets.train import identity
from cai_assets.train.ability import BUNDLED as GENERAL_TEXT
from cai_assets.train.choice import as_set, chosen_changes, fitting, refuse_without_memory, said
from cai_assets.train.footprint import footprint, refuse_without_room
from cai_assets.train.job import Job, Judge, Reports, TrainingKind
from cai_assets.train.nodes import LOST
from cai_assets.versions.parents import parent_of

# Dagster 1.13 marks a detail of its own Pipes reader as a preview.
warnings.filterwarnings("ignore", "Function `PipesMessageReader", category=dg.PreviewWarning)

GRACE_SECONDS = 10.0


def train(run: Run, training: Training, *, card: Mapping[str, Any]) -> Trained:
    """Return the checkpoint of a training run; train it if it does not exist yet.

    The rows it is trained on and its lineage are kept before anything is spent. ``card``: ``principles`` (id, text,
    rows) and ``rows_by_kind``, kept in the checkpoint's record.
    """
    project, asset = run.project, training.asset
    parts = training.parts(run.settings)
    key = identity.training_key(training.kind, parts)
    rows = keep_training_rows(run, training)
    start = time.monotonic()
    checkpoint = project.checkpoints.whole(asset, key, read=True)
    if checkpoint:
        run.context.log.info(f"{asset}: checkpoint {key} exists: nothing to train")
        return Trained(checkpoint, True, 0.0, rows)
    if not project.trains:
        raise dg.Failure(f"the checkpoint {key} is not stored", allow_retries=False)
    refuse_losses(project, run.inputs)
    with project.checkpoints.making(key) as work:
        checkpoint = project.checkpoints.whole(asset, key, read=True)  # another may have made it while this one waited
        if checkpoint:
            return Trained(checkpoint, True, 0.0, rows)
        project.checkpoints.set_aside(asset, key)
        training.refuse_changed(project.layout)
        settings = _that_fit(run, training)
        refuse_without_room(asset, footprint(training.start.path, settings, training.kind), work)
        project.engines.close()  # the trainer needs the memory
        job = _job(settings, training, key, work, dtype=parts["settings"]["dtype"])
        keep_lineage(run, training, rows, key, work)
        _run(run.context, asset, job)
        record = {**parts, "base_name": training.start.name, "rows": training.data.height,
                  "metrics": json.loads(job.metrics.read_text(encoding="utf-8")), "constitution": run.version, **card,
                  **keep_rollouts(run, training, key, work / ROLLOUTS_WRITTEN)}
        for name in (job.metrics.name, job.curves.name, LINEAGE, LINEAGE_ROWS):
            (work / name).replace(job.final / name)
        text = checkpoint_card(training.kind, key, training.start.name, record, coverage=_coverage(run))
        published = project.checkpoints.publish(asset, key, job.final, record=record, card=text)
    return Trained(published, False, time.monotonic() - start, rows)


def _coverage(run: Run) -> str:
    """How far the version's constitution covers the document that it derives from, if it names one."""
    if run.version is None:
        return ""
    parent = parent_of(run.constitution, run.project.snapshots, run.project.settings.constitutions)
    return coverage_line(run.constitution, parent)


def _that_fit(run: Run, training: Training) -> Settings:
    """The settings that the training is done with. Raise NoMemory where they surely do not fit."""
    base, kind = training.start.path, training.kind
    if identity.is_taken(run.settings, kind):
        return run.settings
    settings = training.fitted(run.settings)
    found = as_set(base, settings, kind, training.grader(base))
    if changes := chosen_changes(run.settings, settings, kind):
        run.tell(f"{training.asset} is trained with {said(changes, kind)}, so that it fits (memory: auto)")
    refuse_without_memory(training.asset, found, fitting(base, settings, kind, training.grader(base)), kind)
    return settings


def _job(settings: Settings, training: Training, key: str, work: Path, *, dtype: str) -> Job:
    """The job and its data, written into the work folder."""
    kind, supervised = training.kind, training.supervised
    job = Job(kind=kind, key=key, base=training.start.path, data=work / "data.parquet", work=work, seed=settings.seed,
              settings=getattr(settings, identity.TRAINING_GROUP[kind]).model_dump(mode="json"),
              dtype=dtype, base_weights=training.start.identity.weights, thinking=training.start.identity.thinking,
              reports=_reports(settings, f"{training.asset}-{key[:8]}"),
              general_text=(settings.monitors.general_text or GENERAL_TEXT).resolve(),
              general_texts=settings.monitors.general_texts,
              reward_model=training.reward_model.path if training.reward_model else None,
              labeller=training.labeller.path if training.labeller else None,
              rewards=training.rewards,
              judge=None if training.judge is None else Judge(
                  model=settings.models.role("labeller"), engine=settings.engine, style=settings.labels.style,
                  data_root=_resolved(settings.data_root)),
              supervised_data=None if supervised is None else work / "supervised.parquet", **_nodes(settings, kind))
    write_atomic(job.data, parquet_bytes(training.by_part))
    if job.supervised_data and supervised is not None:
        write_atomic(job.supervised_data, parquet_bytes(supervised))
    write_atomic(work / "job.json", job.model_dump_json(indent=1).encode())
    job.error.unlink(missing_ok=True)
    return job


def _nodes(settings: Settings, kind: TrainingKind) -> dict[str, Any]:
    if settings.nodes_of(getattr(settings, identity.TRAINING_GROUP[kind])) == 1:
        return {}
    return {"nodes": settings.train, "engine": settings.engine if settings.engine.replicas else None}


def _resolved(root: str | Path) -> str | Path:
    return root if isinstance(root, str) else root.resolve()


def _reports(settings: Settings, name: str) -> Reports | None:
    return Reports(to=settings.report_to, run=name, folder=project_root() / "tracking") if settings.report_to else None


def _run(context: dg.AssetExecutionContext, asset: str, job: Job) -> None:
    package_root = str(Path(__file__).parents[2])
    with dg.open_pipes_session(
        context=context, context_injector=dg.PipesTempFileContextInjector(),
        message_reader=dg.PipesTempFileMessageReader(),
    ) as session:
        env = {**os.environ, **session.get_bootstrap_env_vars(),
               "PYTHONPATH": os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))}
        process = subprocess.Popen([sys.executable, "-m", "cai_assets.train", str(job.work / "job.json")],
                                   env=env, start_new_session=True)
        try:
            code = process.wait()
        finally:
            stop_group(process)
    if code:
        how = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
        hint = " (9 is often the system running out of memory)" if code == -signal.SIGKILL else ""
        why = job.error.read_text(encoding="utf-8") if job.error.exists() else "its output is in this step's stderr"
        raise dg.Failure(f"training of {asset} {how}{hint}: {why}. Running again resumes from the last saved state.",
                         allow_retries=code < 0 or code == LOST)


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """End every process of the child's group: SIGTERM first, then SIGKILL."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and _group_alive(process):
            time.sleep(0.1)
    process.wait()


def _group_alive(process: subprocess.Popen[bytes]) -> bool:
    process.poll()  # reap the leader, or its zombie keeps the group alive
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
