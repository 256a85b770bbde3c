"""The same critiques, revisions and labels by the product and by plain scripts: ``python benchmarks/peers.py``.

The product goes first, on a new store; the very calls that it made are then given to

- bare vLLM: ``LLM.generate``, one call of it for each kind of call;
- an asyncio client against ``vllm serve``, 256 in flight, as llm-swarm's and Apertus' scripts have it;
- the lesson's loop: transformers, one prompt after the other (the first ``--loop`` of them);
- with ``--environments FOLDER``: distilabel and Data Designer, each in an environment of its own there, which is made
  if it is not there (``benchmarks/elsewhere/``), against the same ``vllm serve`` with as many calls in flight.

Each runs in a process of its own. Printed are calls a second and peak memory, start-up apart, and their ratios to the
product's; then the share of its calls that the product makes again when one principle is edited, and after a SIGKILL in
the middle. A script without a store makes all of them again. ``--smallest`` is for tests: no vLLM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from flow import CONSTITUTION, responses

from cai_assets.engines.models import LocalModel, prepare
from cai_assets.engines.number_format import number_format
from cai_assets.engines.protocol import Call, ModelIdentity, Request, Result, Sampling
from cai_assets.engines.templating import Templater, load_tokenizer
from cai_assets.engines.vllm_arguments import arguments
from cai_assets.engines.vllm_environment import prepare_environment
from cai_assets.registry.base import load
from cai_assets.registry.engines import BACKENDS, local_backend
from cai_assets.settings import Critique, Engine, Generation, Labels, Model, load_settings
from cai_assets.steps.complete import Completer
from cai_assets.steps.critique import critique_and_revise
from cai_assets.steps.label import label_pairs
from cai_assets.steps.pair import pair_revisions
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore, read_shard

STEPS = ("critique", "revision", "label")
CONTEXT, TOKENS, IN_FLIGHT = 2048, 64, 256
ROOT = Path(__file__).parents[1]
KILO = 1 if sys.platform == "darwin" else 1024


class Counted:
    """An engine that counts its answers, and ends this process without warning after so many."""

    flows = True

    def __init__(self, engine: Any, last: int | None) -> None:
        self.engine, self.last, self.answers = engine, last, 0

    @property
    def identity(self) -> ModelIdentity:
        identity: ModelIdentity = self.engine.identity
        return identity

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        for result in self.engine.run(requests):
            self.answers += 1
            if self.answers == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
            yield result

    def close(self) -> None:
        self.engine.close()


def product(asked: argparse.Namespace) -> tuple[int, float]:
    """Calls made and seconds."""
    model = found()
    engine = load(BACKENDS[asked.backend].factory)(model.path, model.identity, Engine(max_model_len=CONTEXT))
    list(engine.run([Request(row_key="first", seed=0, call=Call(
        messages=({"role": "user", "content": "Hello"},), sampling=Sampling(max_tokens=1)))]))
    counted = Counted(engine, asked.dies_after)
    counted.flows = getattr(engine, "flows", False)
    complete = Completer(counted, RowStore(Layout(asked.folder)), seed=0)
    constitution = CONSTITUTION
    if asked.edited:
        first, *rest = constitution.principles
        edited = first.model_copy(update={"critique": f"{first.critique} Name one example."})
        constitution = constitution.model_copy(update={"principles": (edited, *rest)})
    given = responses(asked.chains).with_columns(kind=pl.lit("red_team"), category=pl.lit("other"),
                                                 row_key=pl.col("row_id"))
    begun = time.perf_counter()
    _, revisions = critique_and_revise(given, constitution, complete=complete,
                                       settings=Critique(rounds=1, few_shots=not asked.smallest),
                                       generation=Generation(max_tokens=8 if asked.smallest else TOKENS))
    label_pairs(pair_revisions(given, revisions, temperature=0.7), constitution, complete=complete,
                settings=Labels(few_shots=not asked.smallest))
    return sum(usage.generated for usage in complete.usage.values()), time.perf_counter() - begun


def calls_of(folder: Path) -> list[list[Call]]:
    """What the product asked, by kind."""
    store = RowStore(Layout(folder))
    return [[Call.model_validate(json.loads(payload)["call"]) for shard in store.shards(step)
             for payload in read_shard(shard, ["payload"])["payload"]] for step in STEPS]


def bare(asked: argparse.Namespace) -> tuple[int, float]:
    prepare_environment()
    from vllm import LLM, SamplingParams
    from vllm.platforms import current_platform

    model = found()
    settings = Engine(max_model_len=CONTEXT, dtype=number_format().dtype)
    llm = LLM(**arguments(model.path, CONTEXT, settings, cpu=current_platform.is_cpu()))
    templater, kinds = Templater(load_tokenizer(model.path)), calls_of(asked.folder)

    def parameters(call: Call, seed: int) -> Any:
        if call.sampling is None:
            answers = [*templater.answer_tokens(call.answers)]
            return SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=answers)
        s = call.sampling
        return SamplingParams(max_tokens=s.max_tokens, temperature=s.temperature, top_p=s.top_p, seed=seed,
                              stop=[*templater.stops(call)], stop_token_ids=[*templater.stop_token_ids])

    begun = time.perf_counter()
    for calls in kinds:
        llm.generate([{"prompt_token_ids": templater.encode(call)} for call in calls],
                     [parameters(call, i) for i, call in enumerate(calls)], use_tqdm=False)
    return sum(map(len, kinds)), time.perf_counter() - begun


def client(asked: argparse.Namespace) -> tuple[int, float]:
    import aiohttp

    kinds = calls_of(asked.folder)

    async def ask(session: Any, slots: asyncio.Semaphore, url: str, call: Call, seed: int) -> None:
        s = call.sampling or Sampling(max_tokens=1, temperature=0)
        body = {"model": "m", "messages": list(call.messages), "max_tokens": s.max_tokens, "seed": seed,
                "temperature": s.temperature, "top_p": s.top_p,
                **({} if call.sampling else {"logprobs": True, "top_logprobs": 20})}
        async with slots, session.post(f"{url}/chat/completions", json=body) as reply:
            reply.raise_for_status()
            await reply.json()

    async def work(url: str) -> float:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
            slots, begun = asyncio.Semaphore(IN_FLIGHT), time.perf_counter()
            for calls in kinds:
                await asyncio.gather(*(ask(session, slots, url, call, i) for i, call in enumerate(calls)))
            return time.perf_counter() - begun

    with served() as url:
        return sum(map(len, kinds)), asyncio.run(work(url))


@contextmanager
def served() -> Iterator[str]:
    """The address of ``vllm serve``, which serves the model as ``m`` while this is open."""
    prepare_environment()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    on_cpu = [] if engine_has_gpu() else ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens",
                                          "8192"]
    server = subprocess.Popen(
        [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(found().path), "--host", "127.0.0.1", "--port",
         str(port), "--served-model-name", "m", "--dtype", number_format().dtype, "--max-model-len", str(CONTEXT),
         "--generation-config", "vllm", *on_cpu],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while not _is_up(port):
            if server.poll() is not None:
                raise SystemExit("vllm serve ended before it was ready")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def elsewhere(name: str) -> Callable[[argparse.Namespace], dict[str, float]]:
    """A peer in an environment of its own, against vLLM's server."""

    def measure(asked: argparse.Namespace) -> dict[str, float]:
        kinds = [[plain(call) for call in calls] for calls in calls_of(asked.folder)]
        with served() as url:
            return in_environment(name, asked.environments, url, kinds, IN_FLIGHT)

    return measure


def in_environment(
    name: str, environments: Path, url: str, kinds: Sequence[Sequence[Mapping[str, Any]]], in_flight: int
) -> dict[str, float]:
    """What the script of a peer prints of these calls, kind by kind: ``calls``, ``seconds``, ``peak``."""
    python = environments.resolve() / name / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(environments / name)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *ELSEWHERE[name]], check=True)
    script = ROOT / "benchmarks" / "elsewhere" / f"{name.replace('-', '_')}_peer.py"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([str(python), str(script)], cwd=folder, capture_output=True, text=True, check=False,
                              input=json.dumps({"url": url, "kinds": kinds, "in_flight": in_flight}))
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def plain(call: Call) -> dict[str, Any]:
    """A call as other packages take it: the beginning of an answer, with which none of theirs may end, is joined to
    what it answers, and a label is one token."""
    s = call.sampling or Sampling(max_tokens=1, temperature=0)
    messages = [*call.messages]
    if messages[-1]["role"] == "assistant":
        *messages, question, begun = messages
        messages.append({"role": "user", "content": f"{question['content']}\n{begun['content']}"})
    return {"messages": messages, "max_tokens": s.max_tokens, "temperature": s.temperature, "top_p": s.top_p}


def engine_has_gpu() -> bool:
    from cai_assets.engines.number_format import device

    return device().accelerator


def loop(asked: argparse.Namespace) -> tuple[int, float]:
    import torch
    from transformers import AutoModelForCausalLM

    path = found().path
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, number_format().dtype)).to(device)
    templater, calls = Templater(load_tokenizer(path)), [call for kind in calls_of(asked.folder) for call in kind]
    calls = calls[:: max(1, len(calls) // asked.loop)][: asked.loop]
    begun = time.perf_counter()
    for call in calls:
        ids = torch.tensor([templater.encode(call)], device=device)
        s = call.sampling or Sampling(max_tokens=1)
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=s.max_tokens, do_sample=True,
                       temperature=s.temperature, pad_token_id=templater.stop_token_ids[0])
    return len(calls), time.perf_counter() - begun


PEERS: dict[str, Callable[[argparse.Namespace], tuple[int, float]]] = {
    "product": product, "bare vLLM": bare, "client of vllm serve": client, "lesson's loop": loop}
ELSEWHERE = {"distilabel": ("distilabel[openai]==1.5.3", "requests"), "data-designer": ("data-designer==0.9.7",)}


def found() -> LocalModel:
    """The generator of the settings; one for a scripted engine is a folder all the same."""
    settings = load_settings()
    return prepare(Model(source=settings.models.generator.source), Layout(settings.data_root))


def measured(name: str, folder: Path, asked: argparse.Namespace, *more: str) -> dict[str, float] | None:
    """Figures of one peer in a process of its own; None if it was killed, as it was told to."""
    command = [sys.executable, __file__, "--peer", name, "--folder", str(folder), "--chains", str(asked.chains),
               "--loop", str(asked.loop), "--backend", asked.backend, *more]
    if asked.environments:
        command += ["--environments", str(asked.environments)]
    done = subprocess.run([*command, *(["--smallest"] if asked.smallest else [])], capture_output=True, text=True,
                          check=False, cwd=ROOT)
    if done.returncode == -signal.SIGKILL and "--dies-after" in more:
        return None
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chains", type=int, default=400)
    parser.add_argument("--loop", type=int, default=24)
    parser.add_argument("--backend", default=local_backend())
    parser.add_argument("--environments", type=Path, help="a folder for the environments of other peers")
    parser.add_argument("--smallest", action="store_true")
    for hidden in ("--peer", "--folder", "--dies-after"):
        parser.add_argument(hidden, type={"--folder": Path, "--dies-after": int}.get(hidden, str),
                            help=argparse.SUPPRESS)
    parser.add_argument("--edited", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peer in ELSEWHERE:
        print(json.dumps(elsewhere(asked.peer)(asked)))
        return
    if asked.peer:
        calls, seconds = PEERS[asked.peer](asked)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILO
        print(json.dumps({"calls": calls, "seconds": seconds, "peak": peak}))
        return
    if asked.smallest:
        asked.chains, asked.loop, asked.backend = 3, 3, "transformers"
    compare(asked)


def compare(asked: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours = measured("product", Path(folder) / "store", asked)
        assert ours is not None  # noqa: S101 - it was not told to die
        names = [name for name in PEERS if asked.backend == "vllm" or name in ("product", "lesson's loop")]
        if asked.environments and asked.backend == "vllm":
            names += ELSEWHERE
        else:
            print(f"{', '.join(ELSEWHERE)}: left out, without --environments and vLLM")
        for name in names:
            theirs = ours if name == "product" else measured(name, Path(folder) / "store", asked)
            assert theirs is not None  # noqa: S101
            speed = theirs["calls"] / theirs["seconds"] / (ours["calls"] / ours["seconds"])
            print(f"{name:<22} {theirs['calls']:.0f} calls, {theirs['calls'] / theirs['seconds']:.2f}/s, peak "
                  f"{theirs['peak'] / 1e6:.0f} MB; ratio to the product {speed:.2f} of the calls/s, "
                  f"{theirs['peak'] / ours['peak']:.2f} of the memory")
        edit = measured("product", Path(folder) / "store", asked, "--edited")
        assert edit is not None  # noqa: S101
        print(f"one principle edited: {edit['calls'] / ours['calls']:.2f} of the calls; a script 1.00")
        half = str(max(1, int(ours["calls"] / 2)))
        measured("product", Path(folder) / "killed", asked, "--dies-after", half)
        rest = measured("product", Path(folder) / "killed", asked)
        assert rest is not None  # noqa: S101
        print(f"killed after {half} calls: {rest['calls'] / ours['calls']:.2f} of the calls again; a script 1.00")


if __name__ == "__main__":
    main()
