"""A program of another environment, as ``rl.algorithm: external`` runs it: it keeps the contract, or breaks it.

    python stand_in.py HOW JOB.json

It imports nothing of cai_assets, and reads the job as docs/external.md describes it.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file


def train(job: dict[str, Any]) -> Path:
    """Leave the policy that it started from, with every number a little larger."""
    base, final = Path(job["base"]), Path(job["work"]) / "final"
    shutil.copytree(base, final)
    weights = {name: tensor + np.float32(0.01) for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(weights, final / "model.safetensors", metadata={"format": "pt"})
    return final


def _weights(change: Callable[[dict[str, Any], str], dict[str, Any]]) -> Callable[[Path], None]:
    """``change``: given the tensors and the name of the last."""
    def changed(final: Path) -> None:
        tensors = load_file(final / "model.safetensors")
        save_file(change(tensors, max(tensors)), final / "model.safetensors", metadata={"format": "pt"})
    return changed


def _json(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def changed(final: Path) -> None:
        content = json.loads((final / name).read_text())
        change(content)
        (final / name).write_text(json.dumps(content))
    return changed


def _cut(final: Path) -> None:
    weights = final / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


BREAKS: dict[str, Callable[[Path], object]] = {
    "no folder": shutil.rmtree,
    "pickle": lambda final: (final / "training_args.bin").write_bytes(pickle.dumps({"x": 1})),
    "hidden pickle": lambda final: (final / "notes.txt").write_bytes(pickle.dumps({"x": 1})),
    "link": lambda final: (final / "extra.json").symlink_to("/etc/hostname"),
    "code": _json("config.json", lambda c: c.update({"auto_map": {"AutoModel": "x.Y"}})),
    "other architecture": _json("config.json", lambda c: c.update({"architectures": ["OtherForCausalLM"]})),
    "other shape": _weights(lambda tensors, last: tensors | {last: np.concatenate([tensors[last]] * 2)}),
    "a tensor less": _weights(lambda tensors, last: {name: t for name, t in tensors.items() if name != last}),
    "not finite": _weights(lambda tensors, last: tensors | {last: tensors[last] * np.float32("nan")}),
    "cut": _cut,
    "other vocabulary": _json("tokenizer.json", lambda t: t["model"]["vocab"].update(new=len(t["model"]["vocab"]))),
    "other template": lambda final: (final / "chat_template.jinja").write_text("{{ messages }}"),
    "metrics": lambda final: (final.parent / "metrics.json").write_text('{"kl_max": "large"}'),
    "curves": lambda final: (final.parent / "curves.jsonl").write_text('{"step": 2}\n{"step": 1}\n'),
}


def main(how: str, file: str) -> int:
    job = json.loads(Path(file).read_bytes())
    work = Path(job["work"])
    print("reads", job["data"], flush=True)
    if how == "fails":
        print("CUDA error:\n  out of   memory")
        return 3
    if how == "hangs":  # with a child in a session of its own
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        (work / "child").write_text(str(child.pid))
        time.sleep(600)
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    (work / "curves.jsonl").write_text("".join(
        json.dumps({"step": step, "reward": step / 2, "kl": 0.1}) + "\n" for step in (1, 2)))
    (work / "metrics.json").write_text(json.dumps({"kl_max": 0.1, "kl_last": 0.1}))
    final = train(job)
    if how in BREAKS:
        BREAKS[how](final)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
