"""What it cost to make each of two versions: over all their runs, not what the newest one of them re-read."""

from __future__ import annotations

from typing import NamedTuple

from cai_assets.pipeline.spending import served_tokens
from cai_assets.reports.compare.sides import Side, is_training, materializations


class Making(NamedTuple):
    """``calls``: asked for this version, over all its runs; ``rests_on``: calls behind its newest records, whichever
    version asked first. ``tokens``: written; ``served_tokens``: read and written by served models."""

    calls: int
    rests_on: int
    tokens: int
    served_tokens: int
    training_runs: int
    seconds: float
    gpu_seconds: float


NAMES = ("calls asked for it", "calls it rests on, asked for any version", "tokens written",
         "tokens of served models, read and written", "training runs", "seconds", "GPU-seconds")


def making(s: Side) -> Making:
    """Summed over the assets that are the version's own."""
    every = materializations(s)
    newest = {r.asset: r for r in every}
    return Making(
        calls=sum(r.generated for r in every), rests_on=sum(r.generated + r.reused for r in newest.values()),
        tokens=sum(r.completion_tokens for r in every), served_tokens=sum(map(served_tokens, every)),
        training_runs=sum(map(is_training, every)), seconds=sum(r.seconds for r in every),
        gpu_seconds=sum(r.gpu_seconds for r in every))
