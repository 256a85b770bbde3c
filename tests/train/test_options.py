"""Ways to save memory: rows packed into sequences stay apart, options that need a GPU say so, and the arguments for
1, 8 and 16 GPUs are those that TRL and accelerate take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny_models import make_job, preference_data, prompt_data, supervised_data, tiny_tokenizer  # noqa: E402

from cai_assets.engines.number_format import gpu  # noqa: E402
from cai_assets.engines.templating import Templater  # noqa: E402
from cai_assets.settings import Reinforcement, Reward, SettingsError, Training, Tuning, load_settings  # noqa: E402
from cai_assets.train import reward, rl_config, run, supervised  # noqa: E402
from cai_assets.train.__main__ import launcher, run_job  # noqa: E402
from cai_assets.train.data import supervised_rows  # noqa: E402
from cai_assets.train.options import option_arguments  # noqa: E402
from cai_assets.train.problems import TrainingProblem  # noqa: E402
from cai_assets.train.progress import Curves, Reporter  # noqa: E402
from cai_assets.train.sharding import with_adapters_of  # noqa: E402

ONE = gpu("one GPU", (9, 0))


def rows_of(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return supervised_rows(data, Templater(tiny_tokenizer()), 32)[0]


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("packing", ["packed", "padding_free"])
def test_packed_rows_do_not_see_each_other(packing: str, base: Path, tmp_path: Path) -> None:
    """The loss of every token is that of its row alone."""
    data = [*supervised_data(5), {"messages": [{"role": "user", "content": "one two three"}], "response": "red"}]
    job = make_job(tmp_path, "supervised", base, data, packing=packing, batch_size=len(data))
    rows = rows_of(data)
    trainer = supervised.make_trainer(job, Tuning.model_validate(job.settings), rows, tiny_tokenizer())
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    assert batch["input_ids"].shape[0] == 1
    assert (len(trainer.train_dataset) < len(rows)) == (packing == "packed")
    assert batch["input_ids"].numel() == sum(len(row["input_ids"]) for row in rows)  # and no padding
    model = trainer.model.eval()
    with torch.no_grad():
        together = model(**batch, fused_lm_head=True, use_cache=False).log_probs.flatten()
        alone = [model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]]),
                       fused_lm_head=True).log_probs.flatten() for row in rows]
    expected = sorted(p for one in alone for p in one.tolist() if p)
    assert sorted(p for p in together.tolist() if p) == pytest.approx(expected, abs=1e-5)


@pytest.mark.usefixtures("exact")
def test_padding_free_training_has_the_losses_of_padded_rows(base: Path, tmp_path: Path) -> None:
    losses = {}
    for packing in ("none", "padding_free"):
        job = make_job(tmp_path / packing, "supervised", base, supervised_data(16), packing=packing, learning_rate=1e-3)
        run_job(job, Reporter(lambda _: None))
        losses[packing] = [row["loss"] for row in Curves(job.curves).rows()]
    assert losses["padding_free"] == pytest.approx(losses["none"], abs=1e-4)


@pytest.mark.usefixtures("exact")
def test_activations_computed_again_change_nothing(base: Path, tmp_path: Path) -> None:
    losses = []
    for checkpointing in (False, True):
        job = make_job(tmp_path / str(checkpointing), "supervised", base, supervised_data(16),
                       checkpointing=checkpointing, learning_rate=1e-3)
        run_job(job, Reporter(lambda _: None))
        losses.append([row["loss"] for row in Curves(job.curves).rows()])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


@pytest.mark.parametrize(("changes", "setting"), [
    ({"optimizer": "adamw_8bit"}, "optimizer='adamw_8bit' needs"), ({"liger": True}, "liger=true needs"),
    ({"quantized": True, "lora": {}}, "quantized=true needs"),
])  # fmt: skip
def test_what_needs_a_gpu_or_a_package_is_refused_in_one_line(
    changes: dict[str, Any], setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Training.model_validate(changes)
    with pytest.raises(TrainingProblem, match=f"{setting} a GPU, and there is none here: set "):
        option_arguments(group, run.device())
    monkeypatch.setattr("cai_assets.train.options.find_spec", lambda name: None)
    with pytest.raises(TrainingProblem, match=f"{setting} the package .*, which is not installed"):
        option_arguments(group, ONE)
    monkeypatch.setattr("cai_assets.train.options.find_spec", lambda name: object())
    assert option_arguments(group, ONE) in ({"optim": "adamw_bnb_8bit"}, {"use_liger_kernel": True}, {})


@pytest.mark.parametrize(("changes", "why"), [
    ({"sl": {"quantized": True}}, "set lora too"), ({"rl": {"sharding": "fsdp"}}, "set processes above 1"),
])  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        load_settings(changes, environment={})


def test_adapters_trained_on_a_base_in_4_bits_are_merged_into_its_weights(base: Path) -> None:
    settings = Training.model_validate({"lora": {"rank": 4}})
    trained = run.adapted(run.load_causal(base), settings.lora, "CAUSAL_LM")
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    whole = with_adapters_of(trained, run.adapted(run.load_causal(base), settings.lora, "CAUSAL_LM"))
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.allclose(whole(ids).logits, trained(ids).logits, atol=1e-6)


@pytest.mark.parametrize("processes", [1, 8, 16])
@pytest.mark.parametrize("kind", ["supervised", "reward", "ppo", "grpo", "rloo", "dpo"])
def test_arguments_for_gpus_are_those_that_trl_and_accelerate_take(
    kind: str, processes: int, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin

    monkeypatch.setattr(run, "device", lambda: ONE)
    monkeypatch.setattr(rl_config, "processes", lambda: processes)
    changes: dict[str, Any] = {"processes": processes, "sharding": "fsdp" if processes > 1 else "none"}
    if kind == "supervised":
        job = make_job(tmp_path, "supervised", base, supervised_data(4), packing="packed", **changes)
        config = supervised.make_config(job, Tuning.model_validate(job.settings))
        assert config.padding_free
    elif kind == "reward":
        job = make_job(tmp_path, "reward", base, preference_data(4), **changes)
        config = reward.make_config(job, Reward.model_validate(job.settings))
    else:
        rows = preference_data(4) if kind == "dpo" else prompt_data(4)
        changes |= {"algorithm": kind, "rollouts": 32 * processes}
        job = make_job(tmp_path, "reinforcement", base, rows, **changes)
        config = rl_config.make_config(job, Reinforcement.model_validate(job.settings))
    assert config.gradient_checkpointing == (processes == 1)  # FSDP has its own, which its plugin does
    if processes > 1:
        plugin = FullyShardedDataParallelPlugin(**config.fsdp_plugin_args)
        assert (plugin.fsdp_version, plugin.activation_checkpointing, plugin.reshard_after_forward) == (2, True, True)


@pytest.mark.parametrize("processes", [2, 8, 16])
def test_accelerate_knows_the_arguments_of_its_launcher(processes: int) -> None:
    from accelerate.commands.launch import launch_command_parser

    module, *arguments = launcher(processes, on_gpus=True)
    assert module == "accelerate.commands.launch"
    known = launch_command_parser().parse_args([*arguments, "-m", "cai_assets.train", "job.json"])
    assert (known.num_processes, known.multi_gpu, known.module) == (processes, True, True)


def test_deepspeed_is_given_zero_3_and_refused_without_it(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                          ) -> None:
    from cai_assets.train import sharding

    settings = Training.model_validate({"processes": 2, "sharding": "zero3"})
    with pytest.raises(TrainingProblem, match="needs a GPU and the package deepspeed: install it, or set"):
        sharding.sharding_arguments(settings, ONE)
    monkeypatch.setattr(sharding, "find_spec", lambda name: object())
    given = sharding.sharding_arguments(settings, ONE)["deepspeed"]
    assert given["zero_optimization"]["stage"] == 3
    assert given["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"]
