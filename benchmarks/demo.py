"""Where the seconds of ``make demo`` go: ``python benchmarks/demo.py [--smallest] [--json] [--data DIR]``.

The graph is materialized once on a new data root, with the settings of the demo. For each asset: seconds of model
calls (engine starts apart), of training steps, of the trainer around them (imports, loading, measuring, saving), and
the rest. Then the same responses, critiques and revisions from bare vLLM, in one call of its ``LLM``: the ratio is what
the product takes for them. ``CAI_`` settings apply; figures of both kinds of processors are in docs/experiments.md.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterEventType

from cai_assets.assets import ORDER, partition_of
from cai_assets.constitution.load import load_file
from cai_assets.defs.execute import materialize
from cai_assets.engines.models import prepare
from cai_assets.engines.number_format import number_format
from cai_assets.engines.protocol import Call, Sampling
from cai_assets.engines.templating import Templater, load_tokenizer
from cai_assets.engines.vllm_arguments import CPU_BATCHED_TOKENS
from cai_assets.engines.vllm_engine import VllmEngine
from cai_assets.pipeline.project import Project
from cai_assets.store.row_store import read_shard
from cai_assets.versions.snapshots import VERSIONS

ROOT = Path(__file__).parents[1]
SMALLEST: dict[str, Any] = {"prompts": {"red_team": 4, "helpful": 2, "eval_red_team": 2, "eval_helpful": 2}}
WRITTEN = ("initial_responses", "critiques", "revisions")  # by the generator, in the order of their steps
STEPS = ("respond", "critique", "revision")
STEP_DONE = re.compile(r"step (\d+)/(\d+)")


@dataclass
class Seconds:
    """Of one asset."""

    total: float = 0.0
    starts: float = 0.0
    calls: float = 0.0
    training: float = 0.0
    trainer: float = 0.0

    @property
    def rest(self) -> float:
        return max(0.0, self.total - self.starts - self.calls - self.training - self.trainer)


def run(settings: dict[str, Any], data: Path) -> tuple[Project, dict[str, Seconds], list[float]]:
    """Materialize everything; the seconds by asset, and those of each engine start."""
    project = Project.open({**settings, "data_root": str(data)})
    version = project.snapshots.register(load_file(ROOT / "constitutions" / "harmlessness.yaml"))
    with dg.DagsterInstance.ephemeral() as instance, timed_starts() as starts:
        instance.add_dynamic_partitions(VERSIONS, [version])
        result = materialize(instance, version, overrides={**settings, "data_root": str(data)})
        if not result.success:
            raise SystemExit("the run failed: see the lines above")
        events = instance.all_logs(result.run_id)
    return project, seconds_of(project, version, events, starts), [end - begin for begin, end in starts]


@contextmanager
def timed_starts() -> Iterator[list[tuple[float, float]]]:
    """When engines began to start, and when they had (seconds of the clock)."""
    starts: list[tuple[float, float]] = []
    load = VllmEngine._load

    def watched(self: VllmEngine) -> Any:
        if self._loaded is not None:
            return load(self)
        begin = time.time()
        loaded = load(self)
        starts.append((begin, time.time()))
        return loaded

    VllmEngine._load = watched  # type: ignore[method-assign]
    try:
        yield starts
    finally:
        VllmEngine._load = load  # type: ignore[method-assign]


def seconds_of(
    project: Project, version: str, events: Any, starts: list[tuple[float, float]]
) -> dict[str, Seconds]:
    """By asset; of two that are made together the first has the starts and the time around them."""
    assets: dict[str, Seconds] = {}
    steps: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    said: dict[str, list[float]] = defaultdict(list)
    for event in events:
        kind = event.dagster_event.event_type if event.dagster_event else None
        if kind is DagsterEventType.STEP_START:
            steps[event.step_key] = (event.timestamp, event.timestamp)
        elif kind is DagsterEventType.STEP_SUCCESS:
            steps[event.step_key] = (steps[event.step_key][0], event.timestamp)
        elif event.step_key and STEP_DONE.search(event.user_message or ""):
            said[event.step_key].append(event.timestamp)
    owner = {"critique_and_revise": "critiques", "evaluate_policies": "evaluation"}
    for step, (begin, end) in steps.items():
        own = assets.setdefault(owner.get(step, step), Seconds())
        own.total += end - begin
        own.starts += sum(b - a for a, b in starts if begin <= a <= end)
        if len(done := said[step]) > 1:
            own.training = (done[-1] - done[0]) * len(done) / (len(done) - 1)
            own.trainer = own.total - own.training
    for asset in ORDER:
        own = assets.setdefault(asset, Seconds())
        record = project.records.latest(asset, partition_of(asset, version))
        own.calls = max(0.0, record.details.get("engine_seconds", 0.0) - own.starts)
    return assets


def bare_vllm(project: Project) -> tuple[int, float]:
    """Tokens and seconds of the generator's responses, critiques and revisions from vLLM's own ``LLM``."""
    from vllm import LLM, SamplingParams

    settings = project.settings
    model = prepare(settings.models.generator, project.layout)
    templater = Templater(load_tokenizer(model.path))
    payloads = [json.loads(p) for step in STEPS for shard in project.store.shards(step)
                for p in read_shard(shard, ["payload"])["payload"]]
    calls = [Call.model_validate(p["call"]) for p in payloads if p["model"]["weights"] == model.identity.weights]
    prompts = [{"prompt_token_ids": templater.encode(call)} for call in calls]
    sampling = [call.sampling or Sampling() for call in calls]
    wanted = [SamplingParams(temperature=s.temperature, top_p=s.top_p, max_tokens=s.max_tokens, seed=i,
                             stop=list(templater.stops(call)), stop_token_ids=list(templater.stop_token_ids))
              for i, (s, call) in enumerate(zip(sampling, calls, strict=True))]
    llm = LLM(str(model.path), dtype=number_format(settings.engine.dtype).dtype, enforce_eager=True,
              max_model_len=settings.engine.max_model_len, enable_chunked_prefill=False,
              max_num_batched_tokens=CPU_BATCHED_TOKENS, generation_config="vllm")
    begin = time.monotonic()
    answers = llm.generate(prompts, wanted, use_tqdm=False)
    return sum(len(a.outputs[0].token_ids) for a in answers), time.monotonic() - begin


def table(assets: dict[str, Seconds]) -> str:
    """One line an asset, and their sum."""
    lines = [f"{'asset':<20}{'seconds':>9}{'starts':>9}{'calls':>9}{'training':>10}{'trainer':>9}{'rest':>8}"]
    rows = [*assets.items(), ("sum", Seconds(*(sum(x) for x in zip(*(asdict(s).values() for s in assets.values()),
                                                                  strict=True))))]
    return "\n".join([*lines, *(f"{name:<20}{s.total:>9.1f}{s.starts:>9.1f}{s.calls:>9.1f}{s.training:>10.1f}"
                                f"{s.trainer:>9.1f}{s.rest:>8.1f}" for name, s in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true", help="a few prompts, and no bare vLLM")
    parser.add_argument("--data", type=Path, help="a new folder for the data root; default: a temporary one")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    settings = SMALLEST if arguments.smallest else {}
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or Path(folder)
        begin = time.monotonic()
        project = Project.open({"data_root": str(data)})
        prepare(project.settings.models.generator, project.layout)
        unpacking = time.monotonic() - begin
        begin = time.monotonic()
        project, assets, starts = run(settings, data)
        whole = time.monotonic() - begin
        work = sum(s.calls + s.training for s in assets.values())
        product = sum(assets[asset].calls for asset in WRITTEN)
        tokens, bare = (0, 0.0) if arguments.smallest else bare_vllm(project)
    here = number_format(project.settings.engine.dtype)
    if arguments.json:
        print(json.dumps({"assets": {k: asdict(v) for k, v in assets.items()}, "starts": starts, "whole": whole,
                          "unpacking": unpacking, "dtype": here.dtype, "bare_vllm": bare, "product": product}))
        return
    print(f"number format {here.dtype}, because {here.reason}")
    print(table(assets))
    print(f"unpacking the built-in model {unpacking:.1f} s; {len(starts)} engine starts {sum(starts):.1f} s")
    if bare:
        print(f"ratio to bare vLLM {product / bare:.2f}: {tokens} tokens in {product:.1f} s and {bare:.1f} s")
    print(f"ratio to model calls and training steps alone {whole / max(work, 1e-9):.2f}: "
          f"{whole:.1f} s and {work:.1f} s")


if __name__ == "__main__":
    main()
