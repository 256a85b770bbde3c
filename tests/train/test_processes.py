"""Two processes, as for two GPUs: started by accelerate's launcher (on CPU by torch's), one result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny_models import make_job, prompt_data, supervised_data, tiny_model, tiny_reward_model  # noqa: E402

from cai_assets.train.progress import Curves  # noqa: E402

# Each process notes the digest of its weights at the end of the training.
NOTED = """
import hashlib, os, sys
from pathlib import Path
sys.modules["vllm"] = None
from cai_assets.train import __main__, run

train = run.train
def noted(job, trainer, *rest, **more):
    step = train(job, trainer, *rest, **more)
    bits = b"".join(p.detach().numpy().tobytes() for p in trainer.model.parameters())
    value = getattr(trainer, "value_model", None)
    bits += b"".join(p.detach().numpy().tobytes() for p in value.parameters()) if value is not None else b""
    (job.work / f"weights-{os.environ['RANK']}").write_text(hashlib.sha256(bits).hexdigest())
    return step
from cai_assets.train import reinforcement, supervised
reinforcement.train = supervised.train = noted
sys.exit(__main__.main(sys.argv[1:]))
"""


def launch(folder: Path, job: Any, *command: str) -> subprocess.CompletedProcess[str]:
    file = folder / "job.json"
    file.write_text(job.model_dump_json())
    return subprocess.run([sys.executable, *command, str(file)], check=False, capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("kind", ["supervised", "reinforcement"])
def test_two_processes_train_one_model(kind: Any, tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    scorer = tiny_reward_model(base, tmp_path / "scorer")
    changes: dict[str, Any] = {"processes": 2, "batch_size": 2, "learning_rate": 1e-3, "epochs": 1, "save_every": 2}
    rows = supervised_data(16)
    if kind == "reinforcement":
        rows = prompt_data(12, held_out=3)
        changes |= {"steps": 3, "rollouts": 8, "max_tokens": 6, "ppo_epochs": 1, "reward_model": scorer}
    job = make_job(tmp_path, kind, base, rows, **changes)
    job.work.mkdir()
    script = tmp_path / "noted.py"
    script.write_text(NOTED)
    done = launch(tmp_path, job, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script))
    assert done.returncode == 0, done.stderr
    noted = [(job.work / f"weights-{rank}").read_text() for rank in (0, 1)]
    assert noted[0] == noted[1]
    steps = [row["step"] for row in Curves(job.curves).rows()]
    assert steps == list(range(1, 5 if kind == "supervised" else 4))
    assert (job.final / "model.safetensors").is_file()
    metrics = json.loads(job.metrics.read_text())
    assert metrics["steps"] == len(steps)
    assert metrics.get("held_out_n", 3) == 3


@pytest.mark.long
def test_the_command_starts_its_own_processes(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    job = make_job(tmp_path, "supervised", base, supervised_data(16), processes=2, batch_size=2, epochs=1)
    done = launch(tmp_path, job, "-m", "cai_assets.train")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("step 4/4") == 1
    assert (job.final / "model.safetensors").is_file()
    broken = make_job(tmp_path / "broken", "supervised", base, [supervised_data(1)[0] | {"response": "yes " * 60}],
                      processes=2)  # fmt: skip
    done = launch(tmp_path / "broken", broken, "-m", "cai_assets.train")
    assert done.returncode == 1
    assert "no row of" in broken.error.read_text()
