"""What a program of another environment has trained, checked before it is published, and completed.

Nothing in it may run code or lead elsewhere: weights are safetensors, and there are no links. It must be the model that
it was trained from, with other numbers: the same architecture, tensors, vocabulary and chat template. Its tokenizer is
then written as after a training of our own, so that rows which are sampled from it have the same digests.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cai_assets.engines.model_folder import BEGINS, INDEX, OTHER, PICKLED, faults, weights
from cai_assets.engines.templating import load_tokenizer
from cai_assets.engines.weights import shapes
from cai_assets.store.files import sync_folder, write_atomic
from cai_assets.train.job import Job
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.progress import Curves, Say

KEPT = ("config.json", INDEX)
TOKENIZER = ("tokenizer", "special_tokens_map.json", "added_tokens.json", "vocab.", "merges.txt", "chat_template",
             "generation_config.json")
SAME = ("model_type", "architectures")
HEAD = "lm_head.weight"  # which some save and others tie to the embeddings
NAMED = 3  # tensors in a message


def take_in(job: Job, say: Say) -> None:
    """Check ``final``, ``metrics.json`` and ``curves.jsonl``, and leave them as a training of our own does. Raise
    TrainingProblem."""
    tokenizer = load_tokenizer(job.base)
    checks = ((_of_files, ()), (faults, ()), (_of_model, (job.base,)), (_of_tokenizer, (tokenizer,)), (_of_numbers, ()))
    for check, more in checks:  # each of them needs what those before have found
        for fault in check(job.final, *more):
            raise TrainingProblem(f"what rl.external.command left is not published: {fault}")
    metrics, curves = _metrics(job.metrics), _curves(job.curves)
    _complete(job, tokenizer, say)
    job.curves.touch()
    write_atomic(job.metrics, json.dumps({"steps": len(curves), **metrics}, indent=2, allow_nan=False).encode())


def _of_files(final: Path) -> Iterator[str]:
    if not final.is_dir() or final.is_symlink():
        yield f"there is no folder {final}"
        return
    for path in sorted(final.rglob("*")):
        if path.is_symlink():
            yield f"{path} is a link: copy the file itself"
        elif path.is_file() and path.suffix in (*PICKLED, *OTHER):
            yield f"{path} is not read, because opening such files can run code: leave safetensors alone"
        elif path.is_file() and path.suffix != ".safetensors":
            with path.open("rb") as file:
                start = file.read(8)
            if what := next((what for begin, what in BEGINS.items() if start.startswith(begin)), None):
                yield f"{path} is {what}: leave safetensors, configuration and tokenizer alone"


def _of_model(final: Path, base: Path) -> Iterator[str]:
    """Whether it has the architecture and the tensors of the model that it was trained from."""
    ours, theirs = (json.loads((folder / "config.json").read_bytes()) for folder in (base, final))
    for name in SAME:
        if ours.get(name) != theirs.get(name):
            yield f"config.json has {name} {theirs.get(name)}, and the model that it was trained from {ours.get(name)}"
    if "quantization_config" in theirs and "quantization_config" not in ours:
        yield "config.json has a quantization_config: save the weights themselves"
    before, after = shapes(base), shapes(final)
    missing = sorted(before.keys() - after.keys() - {HEAD})
    more = sorted(after.keys() - before.keys() - {HEAD})
    changed = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
    for names, what in ((missing, "are missing"), (more, "are not in the model that it was trained from"),
                        (changed, "have another shape")):
        if names:
            yield f"{len(names)} tensors {what}: {', '.join(names[:NAMED])}" + (" ..." if names[NAMED:] else "")


def _of_tokenizer(final: Path, ours: Any) -> Iterator[str]:
    try:
        theirs = load_tokenizer(final)
    except Exception as e:  # whatever a library raises for a file that is none
        yield f"its tokenizer does not load ({type(e).__name__}: {' '.join(str(e).split())[:200]})"
        return
    if theirs.get_vocab() != ours.get_vocab():
        yield "its tokenizer has another vocabulary than the model that it was trained from"
    if theirs.chat_template != ours.chat_template:
        yield "its chat template is not that of the model that it was trained from"


def _of_numbers(final: Path) -> Iterator[str]:
    import torch
    from safetensors import safe_open

    for path in weights(final):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                tensor = file.get_tensor(name)
                if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
                    yield f"{path.name}: {name} has numbers that are not finite, or no numbers of a model"
                    return


def _metrics(path: Path) -> dict[str, float | None]:
    """Finite numbers, or null, by name; none if there is no file."""
    if not path.is_file():
        return {}
    found = _json(path, path.read_bytes())
    for name, value in found.items():
        _refuse_no_number(path, name, value)
    return found


def _curves(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = [_json(path, line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    steps = [step for row in rows if isinstance(step := row.get("step"), int)]
    if len(steps) < len(rows) or steps != sorted(set(steps)):
        raise TrainingProblem(f"{path}: each line needs a 'step', a whole number above that of the line before")
    for row in rows:
        for name, value in row.items():
            _refuse_no_number(path, name, value)
    return Curves(path).rows()


def _json(path: Path, text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise TrainingProblem(f"{path} is not JSON ({e})") from None
    if not isinstance(value, dict):
        raise TrainingProblem(f"{path}: expected a JSON object, not a {type(value).__name__}")
    return value


def _refuse_no_number(path: Path, name: str, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if value is not None and not number:
        raise TrainingProblem(f"{path}: {name} is {value!r}: give finite numbers, or null")


def _complete(job: Job, tokenizer: Any, say: Say) -> None:
    """Weights and configuration as they came, tokenizer and generation settings as after a training of our own."""
    unfinished = job.work / ".final.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    kept = [*weights(job.final), *(job.final / name for name in KEPT if (job.final / name).is_file())]
    for path in kept:
        path.rename(unfinished / path.name)
    left = sorted(p.relative_to(job.final).as_posix() for p in job.final.rglob("*") if p.is_file())
    if more := [name for name in left if not name.startswith(TOKENIZER)]:
        say(f"not published of what rl.external.command left: {', '.join(more)}")
    tokenizer.save_pretrained(unfinished)
    if (job.base / "generation_config.json").is_file():
        shutil.copyfile(job.base / "generation_config.json", unfinished / "generation_config.json")
    sync_folder(unfinished)
    shutil.rmtree(job.final)
    unfinished.rename(job.final)
