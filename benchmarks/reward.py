"""A reward model on human comparisons, beside what needs no model: ``python benchmarks/reward.py FILE [--json]``.

The generator of the settings (by default the bundled model) gets a scalar head and is trained on most of the file's
comparisons with the settings of ``reward``; the rest, of prompts that were not trained on, is the test. The baselines
(length, refusal, TF-IDF) learn from and guess the very same pairs. ``CAI_`` settings apply.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cai_assets.engines.models import prepare
from cai_assets.engines.number_format import number_format
from cai_assets.pipeline.project import Project
from cai_assets.reports.reward import accuracy_table
from cai_assets.steps.comparison_files import read_comparisons
from cai_assets.steps.comparisons import is_held_out
from cai_assets.store.files import write_atomic
from cai_assets.store.parquet import parquet_bytes
from cai_assets.train.job import Job


def measure(file: Path, *, pairs: int | None, held_out: float, settings: dict[str, Any]) -> dict[str, Any]:
    """Train, and return the training's metrics. ``held_out``: the share of prompts that is the test."""
    project = Project.open({"reward": settings})
    rows = read_comparisons(file, limit=pairs).frame.with_columns(is_held_out(held_out))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        job = Job(kind="reward", key="benchmark", base=prepare(project.settings.models.generator, project.layout).path,
                  data=work / "data.parquet", work=work, seed=project.settings.seed,
                  settings=project.settings.reward.model_dump(mode="json"),
                  dtype=number_format(project.settings.engine.dtype).dtype)
        write_atomic(job.data, parquet_bytes(rows.drop("pair_id", "prompt_id")))
        write_atomic(work / "job.json", job.model_dump_json().encode())
        command = [sys.executable, "-m", "cai_assets.train", str(work / "job.json")]
        if subprocess.run(command, check=False, stdout=sys.stderr).returncode:
            raise SystemExit(job.error.read_text(encoding="utf-8"))
        metrics: dict[str, Any] = json.loads(job.metrics.read_text(encoding="utf-8"))
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="prompt, chosen, rejected; or response_a, response_b, label")
    parser.add_argument("--pairs", type=int, help="this many of them, drawn by their hashes; default: all")
    parser.add_argument("--smallest", dest="pairs", action="store_const", const=24, help="as the tests run it")
    parser.add_argument("--held-out", type=float, default=0.4, help="the share of prompts that is the test")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--max-length", type=int, default=256, help="tokens of a prompt and a response")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    metrics = measure(arguments.file, pairs=arguments.pairs, held_out=arguments.held_out,
                      settings={"epochs": arguments.epochs, "max_length": arguments.max_length})
    if arguments.json:
        print(json.dumps(metrics))
        return
    print(f"{metrics['rows']} comparisons trained on, {metrics['rows_dropped']} left out for their length")
    print(accuracy_table(metrics["held_out"]))


if __name__ == "__main__":
    main()
