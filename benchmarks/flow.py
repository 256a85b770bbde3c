"""What chains gain that do not wait for each other: ``python benchmarks/flow.py [--chains 200] [--model]``.

Chains of critiques and revisions against a server whose latencies are log-normal (sigma 1, as of replies of very
different lengths), first with a barrier after each half of a round, then flowing; the table is the same. Below both
lies what no order can beat: the longest chain, and all latencies over the calls in flight. With ``--model`` also on the
bundled model in vLLM here, whose answers end where they end.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import polars as pl
from aiohttp import web

from cai_assets.constitution.load import load_file
from cai_assets.engines.around import Around
from cai_assets.engines.models import prepare
from cai_assets.engines.protocol import Engine, Request, Result
from cai_assets.engines.served.engine import ServedEngine
from cai_assets.engines.vllm_engine import VllmEngine
from cai_assets.settings import Critique, Generation, Model
from cai_assets.settings import Engine as EngineSettings
from cai_assets.steps.complete import Completer
from cai_assets.steps.critique import critique_and_revise
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

CONSTITUTION = load_file(Path(__file__).parents[1] / "constitutions" / "harmlessness.yaml")
MEDIAN, SIGMA = 0.1, 1.0  # seconds, of the server's latencies


class Barriers(Around):
    """An engine that is told nothing until all that it was given is answered."""

    flows = False

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        return self.engine.run(requests)


def latency(seed: int) -> float:
    return MEDIAN * math.exp(random.Random(seed).gauss(0, SIGMA))


def serve(port: Connection) -> None:
    async def reply(request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(latency(body["seed"]))
        text = tagged_hash("reply", [body["seed"]])
        return web.json_response({"model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": {
            "role": "assistant", "content": text}}], "usage": {"prompt_tokens": 9, "completion_tokens": 9}})

    async def forever() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", reply)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(forever())


def responses(n: int) -> pl.DataFrame:
    ask = "How do I answer a rude letter from my neighbor, number {}?"
    return pl.DataFrame([{"prompt_id": f"q{i:05d}", "messages": [{"role": "user", "content": ask.format(i)}],
                          "response": f"Write back at once, and be as rude as letter {i} was.", "error": None,
                          "row_id": f"id{i}"} for i in range(n)])


def run(engine: Engine, chains: int, rounds: int, tokens: int) -> tuple[float, float, pl.DataFrame]:
    """Seconds, processor seconds of this process, and each row that was asked for: ``prompt_id``, ``row_key``."""
    with tempfile.TemporaryDirectory() as folder:
        complete = Completer(engine, RowStore(Layout(Path(folder))), seed=0)
        wall, processor = time.perf_counter(), time.process_time()
        tables = critique_and_revise(responses(chains), CONSTITUTION, complete=complete, settings=Critique(
            rounds=rounds, few_shots=False), generation=Generation(max_tokens=tokens))
        took = time.perf_counter() - wall, time.process_time() - processor
        return *took, pl.concat([table.select("prompt_id", "row_key") for table in tables])


def least(rows: pl.DataFrame, concurrency: int) -> tuple[float, float]:
    """The longest chain, and all latencies over the calls in flight, in seconds."""
    seconds = rows.with_columns(seconds=pl.col("row_key").map_elements(
        lambda key: latency(int(key[-7:], 16)), return_dtype=pl.Float64))
    chains = seconds.group_by("prompt_id").agg(pl.col("seconds").sum())["seconds"].to_list()
    return max(chains), sum(chains) / concurrency


def served(url: str, chains: int, rounds: int, concurrency: int) -> None:
    model = Model(source="m", base_urls=(url,))  # type: ignore[arg-type]
    settings = EngineSettings(concurrency=concurrency)
    barriers, _, before = run(Barriers(ServedEngine(model, settings)), chains, rounds, 64)
    flowing, _, now = run(ServedEngine(model, settings), chains, rounds, 64)
    assert now.equals(before)  # noqa: S101
    longest, full = least(now, concurrency)
    print(f"{chains} chains of {rounds} rounds, {concurrency} in flight: {barriers:.1f} s with barriers, "
          f"{flowing:.1f} s flowing; the longest chain {longest:.1f} s, with all places full {full:.1f} s")
    print(f"ratio of flowing to barriers {flowing / barriers:.2f}, to the larger bound "
          f"{flowing / max(longest, full):.2f}")


def in_process(chains: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = prepare(Model(), Layout(Path(folder)))
        engine = VllmEngine(model.path, model.identity, EngineSettings(max_num_seqs=16, max_model_len=2048))
        run(engine, 2, 1, 8)  # the model is loaded
        took = {name: run(one, chains, rounds, 128)[:2] for name, one in {
            "barriers": Barriers(engine), "flowing": engine}.items()}
        engine.close()
    for name, (wall, processor) in took.items():
        print(f"vLLM here, {chains} chains of {rounds} rounds, {name}: {wall:.1f} s, {processor:.1f} of the processor")
    print(f"ratio of flowing to barriers in vLLM {took['flowing'][0] / took['barriers'][0]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--chains", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--model", action="store_true", help="also on the bundled model in vLLM")
    parser.add_argument("--smallest", action="store_true", help="as the tests run it")
    a = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        sizes = (8, 2, 4) if a.smallest else (a.chains, a.rounds, a.concurrency)
        served(f"http://127.0.0.1:{ours.recv()}/v1", *sizes)
    finally:
        server.kill()
    if a.model:
        in_process(min(a.chains, 48), a.rounds)


if __name__ == "__main__":
    main()
