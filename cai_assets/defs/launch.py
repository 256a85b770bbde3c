"""Training as a child process under Dagster Pipes, in a process group of its own.

Its log lines reach the UI as they are written. However the step ends (done, failed, terminated in the UI),
the whole group is stopped, so no trainer is left behind with the GPU. A finished checkpoint with the same key
is used again; an unfinished one resumes from its last saved state.
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
from typing import Any, NamedTuple

import dagster as dg
import polars as pl

from cai_assets.defs.making import Making
from cai_assets.lineage.trace import LINEAGE, LINEAGE_ROWS
from cai_assets.pipeline.roles import Base
from cai_assets.reports.checkpoint import checkpoint_card
from cai_assets.store.checkpoints import Checkpoint
from cai_assets.store.files import write_atomic
from cai_assets.store.parquet import parquet_bytes
from cai_assets.train import identity
from cai_assets.train.ability import BUNDLED as GENERAL_TEXT
from cai_assets.train.job import Job, Kind

# Dagster 1.13 marks a detail of its own Pipes reader as a preview.
warnings.filterwarnings("ignore", "Function `PipesMessageReader", category=dg.PreviewWarning)

GRACE_SECONDS = 10.0


class Trained(NamedTuple):
    checkpoint: Checkpoint
    reused: bool
    seconds: float


def train(
    made: Making, *, asset: str, kind: Kind, rows: pl.DataFrame, base: Base,
    card: Mapping[str, Any], reward_model: Checkpoint | None = None, labeller: Base | None = None,
    supervised: pl.DataFrame | None = None,
) -> Trained:
    """Return the checkpoint made of exactly these rows, base and settings; train it if it is not there yet.

    ``made`` knows the rows by their ids (``trains_on``); the lineage is written before anything is spent.
    ``reward_model`` or ``labeller`` rewards, ``supervised`` are the SL rows mixed in: of reinforcement learning alone.
    ``card``: ``constitution``, ``principles`` (id, text, rows) and ``rows_by_kind``, kept in the checkpoint's record.
    """
    context, project = made.context, made.project
    settings = project.settings
    parts = identity.training_parts(settings, kind, rows, base.identity,
                                    reward_model=reward_model and reward_model.key,
                                    labeller=labeller and labeller.identity, supervised=supervised)
    key = identity.training_key(kind, parts)
    start = time.monotonic()
    found = project.checkpoints.find(asset, key)
    if found:
        context.log.info(f"{asset}: checkpoint {key} exists: nothing to train")
        return Trained(found, True, 0.0)
    with project.checkpoints.making(key) as work:
        found = project.checkpoints.find(asset, key)  # another run may have made it while this one waited
        if found:
            return Trained(found, True, 0.0)
        project.engines.close()  # the trainer needs the memory
        job = Job(kind=kind, key=key, base=base.path, data=work / "data.parquet", work=work, seed=settings.seed,
                  settings=getattr(settings, identity.TRAINING_GROUP[kind]).model_dump(mode="json"),
                  dtype=parts["settings"]["dtype"],
                  general_text=(settings.monitors.general_text or GENERAL_TEXT).resolve(),
                  reward_model=reward_model.path if reward_model else None,
                  labeller=labeller.path if labeller else None,
                  supervised_data=None if supervised is None else work / "supervised.parquet")
        write_atomic(job.data, parquet_bytes(rows))
        if job.supervised_data and supervised is not None:
            write_atomic(job.supervised_data, parquet_bytes(supervised))
        write_atomic(work / "job.json", job.model_dump_json(indent=1).encode())
        job.error.unlink(missing_ok=True)
        made.write_lineage(work, asset, key, base=base)
        _run(context, asset, job)
        record = {**parts, "base_name": base.name, "rows": rows.height,
                  "metrics": json.loads(job.metrics.read_text(encoding="utf-8")), **card}
        for name in (job.metrics.name, job.curves.name, LINEAGE, LINEAGE_ROWS):
            (work / name).replace(job.final / name)
        text = checkpoint_card(kind, key, base.name, record)
        published = project.checkpoints.publish(asset, key, job.final, record=record, card=text)
    return Trained(published, False, time.monotonic() - start)


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
                         allow_retries=code < 0)


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """End every process of the child's group: politely, then for certain."""
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
