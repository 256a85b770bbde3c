"""What one stage costs a row beside its engine: ``python benchmarks/stage.py --rows N [--folder DIR] [--smallest]``.

N responses of the scripted engine, from tables of prompts to a table of responses, as the graph makes them, then once
more with every row there. Each is a process of its own, whose peak memory is measured. Baseline: the same calls through
the engine alone. Processor seconds, which other work on the machine disturbs less than wall time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import polars as pl

from cai_assets.engines.keys import request_for
from cai_assets.engines.protocol import Call, Sampling
from cai_assets.engines.scripted import Scripted
from cai_assets.steps.complete import Completer
from cai_assets.steps.respond import responses
from cai_assets.steps.tables import BATCH
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore
from cai_assets.store.tables import Scratch

SAMPLING = Sampling(max_tokens=64)


class Cost(NamedTuple):
    """``cpu``: processor seconds; ``peak``: of memory, in GB; ``generated``: rows."""

    seconds: float
    cpu: float
    peak: float
    generated: int


def prompts(rows: int) -> Iterator[pl.DataFrame]:
    for start in range(0, rows, BATCH):
        numbers = range(start, min(start + BATCH, rows))
        yield pl.DataFrame({
            "prompt_id": [f"p{i:09d}" for i in numbers],
            "messages": [[{"role": "user", "content": f"How do I answer letter {i} without being rude?"}]
                         for i in numbers]})


def stage(folder: Path, rows: int) -> int:
    complete = Completer(Scripted(), RowStore(Layout(folder)), seed=0)
    scratch = Scratch()  # its tables go with it
    made = scratch.keep(responses(prompts(rows), rows, complete=complete, sampling=SAMPLING, what="responses"))
    assert made.height == rows  # noqa: S101
    return complete.usage["respond"].generated


def engine_alone(folder: Path, rows: int) -> int:
    calls = (Call(messages=tuple(messages), sampling=SAMPLING) for part in prompts(rows)
             for (messages,) in part.select("messages").iter_rows())
    requests = (request_for(tagged_hash("r1", i), call) for i, call in enumerate(calls))
    deque(Scripted().run(requests), maxlen=0)
    return rows


def measured(work: Callable[[Path, int], int], folder: Path, rows: int) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    generated = work(folder, rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return Cost(time.perf_counter() - wall, time.process_time() - cpu, peak, generated)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    parser.add_argument("--smallest", dest="rows", action="store_const", const=2000, help="as the tests run it")
    a = parser.parse_args()
    found: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory(dir=a.folder, prefix="cai-stage-") as folder:
        for name, work in {"engine alone": engine_alone, "stage": stage, "once more": stage}.items():
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                cost = found[name] = pool.submit(measured, work, Path(folder), a.rows).result()
            print(f"{name:14}{cost.generated:>12,} of {a.rows:,} rows generated {cost.seconds:9.1f} s "
                  f"{cost.cpu:9.1f} s of processor {cost.peak:7.2f} GB", flush=True)
    alone, made, again = found.values()
    print(f"beside the engine {(made.cpu - alone.cpu) / a.rows * 1e6:.1f} microseconds a row, "
          f"{again.cpu / a.rows * 1e6:.1f} where it is there; ratio to the engine alone {made.cpu / alone.cpu:.2f}")


if __name__ == "__main__":
    main()
