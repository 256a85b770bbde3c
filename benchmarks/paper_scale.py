"""The whole graph at the paper's size: ``python benchmarks/paper_scale.py [--share 0.01] [--folder DIR] [--json]``.

A share of the 182,831 red-team and 135,296 helpful prompts of Bai et al. 2022, four revisions each. Every asset is made
as always, by Dagster and on the scripted engine; in the place of a training stands a file that holds its key, so that a
checkpoint is new where its training is. Then one critique request is edited, and the edit taken back; then ``trace``,
``impact`` and ``verify``. Each of these is a process of its own, whose peak memory is measured for each asset. The same
graph of a few prompts says what does not grow with them; what grows is told for each row, and in proportion for all.
Suites, which do not grow either, have two cases each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
from edit import CONSTITUTION, edited
from plan import SYLLABLES
from store import gigabytes

from cai_assets.constitution.load import load_file
from cai_assets.defs import launch
from cai_assets.defs.execute import materialize
from cai_assets.defs.following import Silent
from cai_assets.evals.reward import measure
from cai_assets.lineage.impact import Target, impact
from cai_assets.lineage.trace import trace
from cai_assets.lineage.verify import verify
from cai_assets.pipeline.project import Project
from cai_assets.reports.summary import summary
from cai_assets.store.layout import Layout
from cai_assets.train.job import Job
from cai_assets.versions.snapshots import VERSIONS

PROMPTS = (("red_team", "red-team", "train", 182_831), ("helpful", "helpful", "train", 135_296),
           ("eval_red_team", "red-team", "evaluation", 1000), ("eval_helpful", "helpful", "evaluation", 1000))
SMALLEST = 2e-5
PRINCIPLE = "computer-misuse"
STATUS, MARKS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Phase(NamedTuple):
    """``cpu``: processor seconds; ``peak``: of memory, in GB; ``assets``: processor seconds and peak of each step;
    ``done``: calls generated and reused, and trainings."""

    seconds: float
    cpu: float
    peak: float
    assets: dict[str, tuple[float, float]]
    done: dict[str, int]


class Watch(Silent):
    """Processor seconds and peak memory of each step of a run."""

    def __init__(self) -> None:
        self.steps: dict[str, tuple[float, float]] = {}
        self._began = 0.0

    def began(self, step: str) -> None:
        MARKS.write_text("5")  # forget the highest so far (man 5 proc)
        self._began = time.process_time()

    def ended(self, step: str, *, well: bool) -> None:
        self.steps[step] = time.process_time() - self._began, peak_memory()


def peak_memory() -> float:
    """Of this process, in GB."""
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("VmHWM")) / 1e6


def prepare(root: Path, share: float) -> dict[str, Any]:
    """Write the model and the prompts, whose words are drawn at random so that none are near duplicates; return
    settings."""
    _weights(root / "model", "base")
    rng, counts = random.Random(0), {}
    with (root / "prompts.jsonl").open("w") as file:
        for name, kind, split, whole in PROMPTS:
            counts[name] = max(2, round(whole * share))
            for i in range(counts[name]):
                words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(20)]
                line = {"id": f"{name}-{i:06d}", "prompt": f"How do I {' '.join(words)}?", "kind": kind, "split": split}
                file.write(json.dumps(line) + "\n")
    return {"scale": "full", "data_root": str(root / "data"), "gate": {"enforce": False},
            "prompts": {"paths": [str(root / "prompts.jsonl")], **counts}, "engine": {"dtype": "float32"},
            "evaluation": {"suite_cases": 2},
            "models": {"generator": {"source": str(root / "model"), "backend": "scripted"}}}


def _weights(folder: Path, key: str) -> None:
    """A model without tensors that no other has the weights of."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    header = json.dumps({"__metadata__": {"key": key}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


def instead_of_training(context: object, asset: str, job: Job) -> None:
    _weights(job.final, job.key)
    (job.final / "held_out.jsonl").touch()
    job.metrics.write_text(json.dumps({"loss_first": 1.0, "kl_max": 0.0, "held_out": measure([], [])}))
    job.curves.write_text('{"step": 1, "loss": 1.0, "kl": 0.0}\n')


def version_of(project: Project, *, edit: bool) -> str:
    first = load_file(CONSTITUTION)
    return project.snapshots.register(edited(first, PRINCIPLE, "critique") if edit else first)


def run(settings: dict[str, Any], edit: bool) -> tuple[Watch, dict[str, int]]:
    launch._run = instead_of_training  # type: ignore[assignment]
    project, watch = Project.open(settings), Watch()
    version = version_of(project, edit=edit)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, [version])
        if not materialize(instance, version, overrides=settings, follower=watch).success:
            raise SystemExit("the run failed: see the lines above")
    made = summary(project, version)
    return watch, {"generated": sum(x.generated for x in made), "reused": sum(x.reused for x in made),
                   "trained": sum(x.made == "trained" for x in made)}


def first(settings: dict[str, Any]) -> tuple[Watch, dict[str, int]]:
    return run(settings, False)


def edit_one(settings: dict[str, Any]) -> tuple[Watch, dict[str, int]]:
    return run(settings, True)


def traced(settings: dict[str, Any]) -> tuple[Watch, dict[str, int]]:
    project = Project.open(settings)
    found = trace(project.layout, f"rl_policy@{version_of(project, edit=False)}").lineage
    return Watch(), {"principles": len(found.influence.principles) if found.influence else 0}


def reached(settings: dict[str, Any]) -> tuple[Watch, dict[str, int]]:
    return Watch(), {"checkpoints": len(impact(Project.open(settings).layout, Target(principle=PRINCIPLE)))}


def verified(settings: dict[str, Any]) -> tuple[Watch, dict[str, int]]:
    problems = verify(Layout(settings["data_root"]))
    return Watch(), {"problems": len(problems)}


PHASES: dict[str, Callable[[dict[str, Any]], tuple[Watch, dict[str, int]]]] = {
    "full run": first, "one principle edited": edit_one, "edit taken back": first, "trace": traced, "impact": reached,
    "verify": verified}


def measured(work: Callable[[dict[str, Any]], tuple[Watch, dict[str, int]]], settings: dict[str, Any]) -> Phase:
    begun = time.monotonic()
    watch, done = work(settings)
    peak = max([peak_memory(), *(peak for _, peak in watch.steps.values())])
    return Phase(time.monotonic() - begun, time.process_time(), peak, watch.steps, done)


def alone(work: Callable[[dict[str, Any]], tuple[Watch, dict[str, int]]], settings: dict[str, Any]) -> Phase:
    """In a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, work, settings).result()


def told(name: str, phase: Phase) -> str:
    done = ", ".join(f"{n} {what}" for what, n in phase.done.items())
    lines = [f"{name:24}{phase.seconds:9.1f} s {phase.cpu:9.1f} s of processor {phase.peak:8.3f} GB   {done}"]
    for step, (cpu, peak) in phase.assets.items():
        if cpu >= phase.cpu / 50 or peak >= 0.9 * phase.peak:
            lines.append(f"  {step:33}{cpu:9.1f} s of processor {peak:8.3f} GB")
    return "\n".join(lines)


def growth(share: float, few: Phase, whole: Phase, disk: float) -> str:
    """What the rows beyond a few prompts took, each and in proportion."""
    rows = max(1, whole.done["generated"] - few.done["generated"])
    cpu, memory = whole.cpu - few.cpu, whole.peak - few.peak
    lines = [f"in proportion, all of the paper's prompts: {(few.cpu + cpu / share) / 3600:.1f} processor hours, "
             f"{few.peak + memory / share:.1f} GB of memory, {disk / share:.0f} GB on disk"] if share < 1 else []
    each = f"{cpu / rows * 1e6:.0f} microseconds of processor and {memory / rows * 1e9:.0f} bytes of memory a row"
    return "\n".join([*lines, f"the full run: {rows / whole.seconds:.0f} rows/s, {each}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.01, help="of the paper's prompts, up to 1")
    parser.add_argument("--smallest", dest="share", action="store_const", const=SMALLEST, help="as the tests run it")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, Phase] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="cai-paper-") as folder:
        root = Path(folder)
        if arguments.share > SMALLEST:
            found["a few prompts"] = alone(first, prepare(root / "few", SMALLEST))
        settings = prepare(root / "all", arguments.share)
        for name, work in PHASES.items():
            found[name] = alone(work, settings)
            if not arguments.json:
                print(told(name, found[name]), flush=True)
        disk = gigabytes(root / "all" / "data")
    if arguments.json:
        print(json.dumps({"share": arguments.share, "disk_gb": disk, **{n: p._asdict() for n, p in found.items()}}))
        return
    whole = found["full run"]
    print(f"{whole.done['generated']} calls, {disk:.3f} GB on disk")
    print(growth(arguments.share, found.get("a few prompts", whole), whole, disk))


if __name__ == "__main__":
    main()
