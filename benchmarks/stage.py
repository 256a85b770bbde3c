"""What one stage costs a row beside its engine: ``python benchmarks/stage.py --rows N [--folder DIR] [--smallest]``.

N responses of the scripted engine, from tables of prompts to a table of responses, as the graph makes them, then once
more with every row there. Each is a process of its own, whose peak memory is measured. Baseline: the same calls through
the engine alone. Processor seconds, which other work on the machine disturbs less than wall time.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl
from plan import measure

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


def prompts(rows: int) -> Iterator[pl.DataFrame]:
    for start in range(0, rows, BATCH):
        numbers = range(start, min(start + BATCH, rows))
        yield pl.DataFrame({
            "prompt_id": [f"p{i:09d}" for i in numbers],
            "messages": [[{"role": "user", "content": f"How do I answer letter {i} without being rude?"}]
                         for i in numbers]})


def stage(folder: Path, rows: int, generated: int) -> None:
    complete = Completer(Scripted(), RowStore(Layout(folder)), seed=0)
    scratch = Scratch()  # its tables go with it
    made = scratch.keep(responses(prompts(rows), rows, complete=complete, sampling=SAMPLING, what="responses"))
    assert (made.height, complete.usage["respond"].generated) == (rows, generated)  # noqa: S101


def engine_alone(rows: int) -> None:
    calls = (Call(messages=tuple(messages), sampling=SAMPLING) for part in prompts(rows)
             for (messages,) in part.select("messages").iter_rows())
    requests = (request_for(tagged_hash("r1", i), call) for i, call in enumerate(calls))
    deque(Scripted().run(requests), maxlen=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    parser.add_argument("--smallest", dest="rows", action="store_const", const=2000, help="as the tests run it")
    a = parser.parse_args()
    spent = []
    with tempfile.TemporaryDirectory(dir=a.folder, prefix="cai-stage-") as folder:
        for name, work in {"engine alone": partial(engine_alone, a.rows),
                           "stage": partial(stage, Path(folder), a.rows, a.rows),
                           "once more": partial(stage, Path(folder), a.rows, 0)}.items():
            cost = measure(work)
            print(f"{name:14}{a.rows:,} rows {cost['seconds']:9.1f} s {cost['cpu_seconds']:9.1f} s of processor "
                  f"{cost['peak_gb']:7.2f} GB", flush=True)
            spent.append(cost["cpu_seconds"] / a.rows * 1e6)
    alone, made, again = spent
    print(f"beside the engine {made - alone:.1f} microseconds a row, {again:.1f} where it is there; "
          f"ratio to the engine alone {made / alone:.2f}")


if __name__ == "__main__":
    main()
