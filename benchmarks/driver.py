"""How many calls a second one process sends to servers, and what each costs it.

    python benchmarks/driver.py [--calls 20000] [--concurrency 256] [--turns 3] [--environments FOLDER]

A small server in a process of its own answers every call at once with the same reply of 40 words. Five ways to send
the same calls: aiohttp alone with the standard library's JSON; the client of this project; the engine around it (fleet,
retries, checks, results); a completer, which adds keys and the row store, as an asset does; and two processes of it,
which share the store. Prints the median over the turns of calls a second and of processor milliseconds a call in the
sending processes, and ratios to aiohttp alone. With ``--environments``, the peers of ``peers.py`` send a quarter.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp

from cai_assets.engines.protocol import Call, Request, Sampling
from cai_assets.engines.served.body import CHAT, Writer
from cai_assets.engines.served.client import Client
from cai_assets.engines.served.dialect import Dialect
from cai_assets.engines.served.engine import ServedEngine
from cai_assets.settings import Engine, Model, ServerAddress
from cai_assets.steps.complete import Completer, Step
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

WORDS = " ".join(["I would rather not say that; here is what may help instead."] * 4)
REPLY = json.dumps({"model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": {
    "role": "assistant", "content": WORDS}}], "usage": {"prompt_tokens": 40, "completion_tokens": 48}}).encode()
Figures = tuple[float, float]  # calls a second, and processor milliseconds a call
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(REPLY), REPLY)


class Instant(asyncio.Protocol):
    """Answers whatever has a body of the length it says."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.waiting = transport, b""

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while (end := self.waiting.find(b"\r\n\r\n")) >= 0:
            length = int(self.waiting[:end].lower().partition(b"content-length:")[2].partition(b"\r")[0])
            if len(self.waiting) < end + 4 + length:
                return
            self.waiting = self.waiting[end + 4 + length:]
            self.transport.write(ANSWER)  # type: ignore[attr-defined]


def serve(port: Connection) -> None:
    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


def calls(n: int) -> list[Call]:
    return [Call(messages=({"role": "user", "content": f"Request {i}: " + "what should I say to my neighbor " * 4},),
                 sampling=Sampling(max_tokens=64)) for i in range(n)]


def requests(n: int) -> list[Request]:
    return [Request(row_key=f"r1:{i:032x}", seed=i, call=call) for i, call in enumerate(calls(n))]


async def at_once(n: int, concurrency: int, send: Callable[[int], object]) -> None:
    """``send`` each number, ``concurrency`` at a time."""
    numbers = iter(range(n))

    async def one_after_another() -> None:
        for number in numbers:
            await send(number)  # type: ignore[misc]

    await asyncio.gather(*(one_after_another() for _ in range(concurrency)))


def bare(url: str, n: int, concurrency: int) -> None:
    bodies = [{"model": "m", "messages": list(c.messages), "max_tokens": 64, "temperature": 0.7} for c in calls(n)]

    async def run() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
            async def send(number: int) -> None:
                async with session.post(f"{url}/chat/completions", data=json.dumps(bodies[number])) as reply:
                    assert json.loads(await reply.read())["choices"][0]["message"]["content"] == WORDS  # noqa: S101

            await at_once(n, concurrency, send)

    asyncio.run(run())


def client(url: str, n: int, concurrency: int) -> None:
    write = Writer("m", None, 4096)
    speak = Dialect()
    bodies = [speak(write(r).fields).body for r in requests(n)]

    async def run() -> None:
        one = Client(ServerAddress(url), "", 60.0, concurrency)
        await at_once(n, concurrency, lambda number: one.post(CHAT, bodies[number]))
        await one.close()

    asyncio.run(run())


def engine_of(url: str, concurrency: int) -> ServedEngine:
    return ServedEngine(Model(source="m", base_urls=(url,)), Engine(concurrency=concurrency))  # type: ignore[arg-type]


def engine(url: str, n: int, concurrency: int) -> None:
    assert all(r.text == WORDS for r in engine_of(url, concurrency).run(requests(n)))  # noqa: S101


def completer(url: str, n: int, concurrency: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        complete_in(folder, url, calls(n), concurrency)


def complete_in(folder: str, url: str, some: Sequence[Call], concurrency: int) -> None:
    complete = Completer(engine_of(url, concurrency), RowStore(Layout(Path(folder))), seed=0)
    assert all(r.text == WORDS for r in complete(Step("respond"), some))  # noqa: S101


def here(way: Callable[[str, int, int], None], url: str, n: int, concurrency: int) -> Figures:
    wall, processor = time.perf_counter(), time.process_time()
    way(url, n, concurrency)
    return n / (time.perf_counter() - wall), (time.process_time() - processor) / n * 1000


def two_processes(url: str, n: int, concurrency: int) -> Figures:
    """Half of the calls and of those in flight each, from when both are ready."""
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(3)
    with tempfile.TemporaryDirectory() as folder, spawn.Pool(2, ready.wait) as pool:
        ready.wait()
        wall = time.perf_counter()
        seconds = pool.starmap(one_of_two, [(folder, url, n, first, concurrency) for first in (0, 1)], chunksize=1)
        wall = time.perf_counter() - wall
        assert RowStore(Layout(Path(folder))).keys("respond").height == n  # noqa: S101
    return n / wall, sum(seconds) / n * 1000


def one_of_two(folder: str, url: str, n: int, first: int, concurrency: int) -> float:
    """Processor seconds."""
    begun = time.process_time()
    complete_in(folder, url, calls(n)[first::2], max(1, int(concurrency / 2)))
    return time.process_time() - begun


WAYS: dict[str, Callable[[str, int, int], Figures]] = {
    "aiohttp alone": partial(here, bare), "the client": partial(here, client), "the engine": partial(here, engine),
    "keys and store too": partial(here, completer), "two processes of that": two_processes}


def report(url: str, n: int, concurrency: int, turns: int) -> None:
    found: dict[str, Sequence[Figures]] = {name: [] for name in WAYS}
    for _ in range(turns):
        for name, way in WAYS.items():
            found[name] = [*found[name], way(url, n, concurrency)]
    rates = {name: [statistics.median(x) for x in zip(*of, strict=True)] for name, of in found.items()}
    base = rates["aiohttp alone"]
    print(f"{n} calls, {concurrency} in flight, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
          f"medians of {turns} turns\n| | calls/s | processor ms a call |\n|---|---|---|")
    for name, (rate, cost) in rates.items():
        print(f"| {name} | {rate:,.0f} | {cost:.2f} |")
    for name, (rate, cost) in list(rates.items())[1:]:
        print(f"ratio to aiohttp alone, {name}: {rate / base[0]:.2f} of the calls/s, {cost / base[1]:.2f} of the cost")


def peers(url: str, n: int, concurrency: int, environments: Path) -> None:
    """Calls a second of other packages, and what share that is of the product's in the same minute."""
    from peers import ELSEWHERE, in_environment, plain

    ours, _ = here(completer, url, n, concurrency)
    for name in ELSEWHERE:
        figures = in_environment(name, environments, url, [[plain(call) for call in calls(n)]], concurrency)
        theirs = figures["calls"] / figures["seconds"]
        print(f"{name}: {theirs:,.0f} calls/s, {figures['calls']:.0f} answered; here {ours:,.0f} calls/s with keys and "
              f"store, ratio {ours / theirs:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--environments", type=Path, help="a folder for the environments of other packages")
    parser.add_argument("--smallest", action="store_true", help="as the tests run it: 64 calls, one turn")
    a = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{ours.recv()}/v1"
        report(url, *((64, 8, 1) if a.smallest else (a.calls, a.concurrency, a.turns)))
        if a.environments:
            peers(url, int(a.calls / 4), a.concurrency, a.environments)
    finally:
        server.kill()  # where this runs in the background of a shell, SIGTERM may be ignored


if __name__ == "__main__":
    main()
