"""A training divided between two processes by FSDP2 learns what one process learns, and leaves whole tensors.

On CPU by gloo. Online algorithms are given their responses, so that both see the same ones however many processes
there are.
"""

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

from each_training import SHARED, TRAININGS, job_of  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from tiny_models import tiny_model, tiny_reward_model  # noqa: E402

from cai_assets.train.progress import Curves  # noqa: E402

pytestmark = pytest.mark.long
# A response depends on its prompt and on its place in its group, whoever samples it; a training may stop after a save.
SCRIPT = """
import os, sys
sys.modules["vllm"] = None
from cai_assets.train import __main__, callbacks, reinforcement, run

stop = int(os.environ.get("STOP_AFTER", "0"))
whole = callbacks.Seal.on_save
def save_and_stop(self, args, state, control, **more):
    whole(self, args, state, control, **more)
    if stop and state.global_step >= stop:
        import torch
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        os._exit(7)
callbacks.Seal.on_save = save_and_stop

begun = reinforcement.make_trainer
def given(*arguments):
    trainer = begun(*arguments)
    if os.environ.get("GIVEN") and hasattr(trainer, "_generate_single_turn"):
        def responses(prompt_ids, *rest, **more):
            base = trainer.accelerator.process_index * len(prompt_ids)
            out = []
            for i, ids in enumerate(prompt_ids):
                j = (sum(ids) + base + i) % 7
                out.append([6 + j, 6 + (2 * j) % 7, 9, 3])
            return out if "RLOO" in type(trainer).__name__ else (out, None)
        trainer._generate_single_turn = responses
    return trainer
reinforcement.make_trainer = given
sys.exit(__main__.main(sys.argv[1:]))
"""


def trained(folder: Path, job: Any, **environment: str) -> tuple[int, str]:
    script, file = folder / "script.py", folder / "job.json"
    script.write_text(SCRIPT)
    file.write_text(job.model_dump_json())
    processes = job.settings["processes"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run([sys.executable, *(launcher if processes > 1 else []), str(script), str(file)], check=False,
                          capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", "GIVEN": "1",
                                                               "CUDA_VISIBLE_DEVICES": "", **environment})
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tiny_model(tmp_path_factory.mktemp("base"))
    return base, tiny_reward_model(base, tmp_path_factory.mktemp("scorer"))


def losses(job: Any) -> list[float]:
    return [row["loss"] for row in Curves(job.curves).rows()]


@pytest.mark.parametrize("training", TRAININGS)
def test_two_processes_learn_what_one_does_and_publish_whole_tensors(
    training: str, models: tuple[Path, Path], tmp_path: Path
) -> None:
    jobs = {}
    # PPO whitens the advantages of each process: what two learn is compared with two that are whole as well.
    also = [("whole", 2, "none")] if training.startswith("ppo") else []
    for name, processes, sharding in (("one", 1, "none"), ("two", 2, "fsdp"), *also):
        (tmp_path / name).mkdir()
        jobs[name] = job_of(tmp_path / name, training, *models, processes, sharding)
        code, said = trained(tmp_path / name, jobs[name])
        assert code == 0, said
    assert len(losses(jobs["one"])) == 4
    assert losses(jobs["two"]) == pytest.approx(losses(jobs["one"]), abs=1e-4)
    whole, parts = (load_file(jobs[name].final / "model.safetensors") for name in ("whole" if also else "one", "two"))
    assert {name: t.shape for name, t in parts.items()} == {name: t.shape for name, t in whole.items()}
    assert max((parts[name] - tensor).abs().max().item() for name, tensor in whole.items()) < 1e-3
    if training not in ("reward", "supervised"):
        assert json.loads(jobs["two"].metrics.read_text())["held_out_n"] >= 3


@pytest.mark.parametrize("training", ["supervised", "ppo", SHARED])
def test_a_sharded_training_that_was_stopped_goes_on(
    training: str, models: tuple[Path, Path], tmp_path: Path
) -> None:
    straight, stopped = (job_of(tmp_path / name, training, *models, 2, "fsdp") for name in ("straight", "stopped"))
    sampled = {"GIVEN": ""}  # by both processes together: their responses end after different numbers of tokens
    assert trained(tmp_path / "straight", straight, **sampled)[0] == 0
    assert trained(tmp_path / "stopped", stopped, STOP_AFTER="2", **sampled)[0] != 0
    assert not stopped.final.exists()
    code, said = trained(tmp_path / "stopped", stopped, **sampled)
    assert code == 0, said
    assert "resuming after step 2" in said
    assert losses(stopped) == pytest.approx(losses(straight), abs=1e-4)


@pytest.mark.parametrize("training", ["supervised", "reward", "grpo", "ppo"])
def test_adapters_are_sharded_and_merged_into_whole_tensors(
    training: str, models: tuple[Path, Path], tmp_path: Path
) -> None:
    job = job_of(tmp_path, training, *models, 2, "fsdp", lora={"rank": 4})
    code, said = trained(tmp_path, job)
    assert code == 0, said
    before, after = load_file(models[0] / "model.safetensors"), load_file(job.final / "model.safetensors")
    shared = before.keys() & after.keys()
    assert {name: after[name].shape for name in shared} == {name: before[name].shape for name in shared}
    assert any((after[name] - before[name]).abs().max() > 0 for name in shared)
