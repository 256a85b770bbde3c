"""Who samples in reinforcement learning, and what TRL's own configurations say to it, for 1, 8 and 16 GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from rl_task import ONLINE, job_of  # noqa: E402

from cai_assets.engines.number_format import Device, gpu  # noqa: E402
from cai_assets.settings import Reinforcement, SettingsError, load_settings  # noqa: E402
from cai_assets.train import rl_config, sampler  # noqa: E402
from cai_assets.train.identity import recipe  # noqa: E402
from cai_assets.train.problems import TrainingProblem  # noqa: E402
from cai_assets.train.rl_config import make_config  # noqa: E402
from cai_assets.train.sampler import by_vllm, sampled, vllm_arguments  # noqa: E402

CPU, H200 = Device("a processor", ("float32",)), gpu("H200", (9, 0))
SERVER = "http://127.0.0.1:8000"


def rl(**given: Any) -> Reinforcement:
    return load_settings({"rl": given}, environment={}).rl


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Any:
    def machine(device: Device, *, vllm: bool = True, processes: int = 1) -> None:
        monkeypatch.setattr(sampler, "device", lambda: device)
        monkeypatch.setattr(sampler, "find_spec", lambda name: object() if vllm else None)
        for module in (sampler, rl_config):
            monkeypatch.setattr(module, "processes", lambda: processes)

    return machine


@pytest.mark.parametrize(("device", "vllm", "settings", "expected"), [
    (H200, True, {}, True), (H200, False, {}, False), (CPU, True, {}, False), (H200, True, {"algorithm": "dpo"}, False),
    (H200, True, {"sampler": "transformers"}, False), (CPU, True, {"vllm": {"server": SERVER}}, True),
])
def test_vllm_samples_by_itself_where_it_can(
    device: Device, vllm: bool, settings: dict[str, Any], expected: bool, here: Any
) -> None:
    here(device, vllm=vllm)
    assert by_vllm(rl(**settings)) == expected


@pytest.mark.parametrize(("device", "vllm", "says"), [(H200, False, "not installed"), (CPU, True, "no GPU here")])
def test_asked_for_where_it_cannot_it_is_an_error(device: Device, vllm: bool, says: str, here: Any) -> None:
    here(device, vllm=vllm)
    with pytest.raises(TrainingProblem, match=says):
        by_vllm(rl(sampler="vllm"))


@pytest.mark.parametrize("processes", [1, 8, 16])
@pytest.mark.parametrize("algorithm", ONLINE)
def test_trl_takes_the_configuration(
    algorithm: str, processes: int, tmp_path: Path, base: Path, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import TrainingArguments

    monkeypatch.setattr(TrainingArguments, "world_size", property(lambda _: processes))
    here(H200, processes=processes)
    changes = {"algorithm": algorithm, "processes": processes, "rollouts": 128, "batch_size": 4, "group": 4}
    job = job_of(tmp_path, base, **changes, vllm={"tensor_parallel_size": min(processes, 2)})
    settings = Reinforcement.model_validate(job.settings)
    config = make_config(job, settings)
    assert (config.use_vllm, config.vllm_mode, config.vllm_enable_sleep_mode) == (True, "colocate", True)
    assert (config.vllm_max_model_length, config.generation_batch_size) == (settings.max_length, 128)
    assert config.steps_per_generation * config.per_device_train_batch_size * processes == 128
    assert config.generation_kwargs["stop_token_ids"]
    served = Reinforcement.model_validate(job.settings | {"vllm": {"server": f"{SERVER}/"}})
    assert make_config(job, served).vllm_server_base_url == SERVER
    here(CPU, processes=processes)
    assert make_config(job, settings).use_vllm is False


def test_colocated_vllm_is_spread_over_whole_groups_of_processes(tmp_path: Path, base: Path, here: Any) -> None:
    here(H200, processes=4)
    job = job_of(tmp_path, base, vllm={"tensor_parallel_size": 3})
    with pytest.raises(TrainingProblem, match=r"tensor_parallel_size=3 must divide rl\.processes=4"):
        vllm_arguments(job, Reinforcement.model_validate(job.settings))


def test_who_samples_is_not_in_the_key_and_a_misspelled_setting_is_refused() -> None:
    unset, chosen = (recipe(load_settings({"rl": given}, environment={}), "reinforcement")
                     for given in ({}, {"sampler": "transformers", "vllm": {"sleep": False}}))
    assert unset == chosen
    with pytest.raises(SettingsError, match=r"rl\.vllm\.sleeps: no such setting"):
        rl(vllm={"sleeps": True})


@pytest.mark.parametrize("processes", [1, 3])
def test_each_process_samples_a_share_and_all_get_all(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [[i] for i in range(7)]

    class Vllm:
        mode, enable_sleep_mode, synced = "colocate", False, 0

        def sync_weights(self) -> None:
            self.synced += 1

        def generate(self, mine: list[list[int]], _: Any, n: int) -> Any:
            return None, [[*prompt, 9] for prompt in mine], None, None

    shares = []
    monkeypatch.setattr("accelerate.utils.gather_object", lambda own: shares.append(own) or own)
    for rank in range(processes):
        trainer: Any = type("T", (), {"vllm_generation": Vllm(), "accelerator": type("A", (), {
            "num_processes": processes, "process_index": rank})})
        out = sampled(trainer, prompts)
        assert trainer.vllm_generation.synced == 1
    assert len({len(share) for share in shares}) == 1
    assert [r for share in shares for r in share][:7] == [[i, 9] for i in range(7)]
    assert processes > 1 or out == [[i, 9] for i in range(7)]
