"""What chains gain that do not wait for each other: ``python benchmarks/flow.py [--chains 200] [--model]``.

Chains of critiques and revisions against a server whose latencies are log-normal (sigma 1, as of replies of very
different lengths), first with a barrier after each half of a round, then flowing; the table is the same. Below both
lies what no order can beat: the longest chain, and all latencies over the calls in flight. Then three policies one
after the other, and a judge on a server of its own that is asked twice about each answer: when all are there, and as
soon as each is. With ``--model`` also on the bundled model in vLLM here, whose answers end where they end.
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
from cai_assets.engines.protocol import Call, Engine, Request, Result, Sampling
from cai_assets.engines.served.engine import ServedEngine
from cai_assets.engines.vllm_engine import VllmEngine
from cai_assets.evals.judge import STEP as JUDGE
from cai_assets.settings import Critique, Generation, Model
from cai_assets.settings import Engine as EngineSettings
from cai_assets.steps.complete import Addressed, Completer, Row, Work
from cai_assets.steps.critique import critique_and_revise
from cai_assets.steps.following import follow, together
from cai_assets.steps.respond import RESPOND
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
        return web.json_response({"model": body["model"], "choices": [{"index": 0, "finish_reason": "stop", "message": {
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


def judged(url: str, prompts: int, concurrency: int, *, meanwhile: bool) -> tuple[float, list[str]]:
    """Seconds, and the keys of all rows."""
    settings = EngineSettings(concurrency=concurrency)
    names = ("base", "sl_policy", "rl_policy", "judge")
    engines = [ServedEngine(Model(source=name, base_urls=(url,)), settings) for name in names]  # type: ignore[arg-type]
    keys: list[str] = []
    for engine in engines:
        engine.aside = meanwhile and engine is engines[-1]
    with tempfile.TemporaryDirectory() as folder:
        *policies, judge = (Completer(engine, RowStore(Layout(Path(folder))), seed=0) for engine in engines)

        def answer(policy: Completer, i: int) -> Work[Row | None]:
            return (yield Addressed(RESPOND, asked(f"How do I answer letter {i}?"), policy))

        def verdicts(row: Row) -> Iterator[Work[None]]:
            questions = [Addressed(JUDGE, asked(f"{order}: {row.text}"), judge) for order in ("first", "second")]
            return together(questions, lambda rows: keys.extend([row.row_key, *(r.row_key for r in rows)]))

        begun = time.perf_counter()
        works = [answer(policy, i) for policy in policies for i in range(prompts)]
        follow(works, verdicts, complete=judge, others=policies, what="answers and judge", count=2 * len(works))
        return time.perf_counter() - begun, sorted(keys)


def asked(text: str) -> Call:
    return Call(messages=({"role": "user", "content": text},), sampling=Sampling(max_tokens=64))


def judges(url: str, prompts: int, concurrency: int) -> None:
    after, before = judged(url, prompts, concurrency, meanwhile=False)
    during, now = judged(url, prompts, concurrency, meanwhile=True)
    assert now == before  # noqa: S101
    print(f"3 policies, {prompts} prompts, {concurrency} in flight at a server: {after:.1f} s where the judge waits, "
          f"{during:.1f} s where it does not")
    print(f"ratio of judging meanwhile to judging at the end {during / after:.2f}")


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
        url = f"http://127.0.0.1:{ours.recv()}/v1"
        served(url, *sizes)
        judges(url, sizes[0], sizes[2])
    finally:
        server.kill()
    if a.model:
        in_process(min(a.chains, 48), a.rounds)


if __name__ == "__main__":
    main()
