"""How the policy performs on prompts it is not trained on: before the first step, after the last, and, where the best
state is published, at every save.

Sampling is seeded by the settings alone and leaves the run's own random state untouched: measuring a training run more
often does not change its result. It measures the reward (the score less the penalties for a missing end and for
length), KL to the reference in nats per response, response length, and the share of repeated 4-grams.

Imports torch at the top; it is itself imported only inside functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import GenerationConfig, Trainer

from cai_assets.train.data import TrainingRow
from cai_assets.train.parted import Parted
from cai_assets.train.rl_task import WithTask, shaped
from cai_assets.train.sampler import sampled
from cai_assets.train.sharding import is_sharded

PREFIX = "eval_held_out_"
PART = "part/"
SEEDS_APART = 1_000_003


class HeldOut(WithTask):
    """Mixin in front of a TRL trainer: ``evaluate`` is this measurement."""

    args: Any
    state: Any
    control: Any
    model: Any
    ref_model: Any
    callback_handler: Any
    _initial_global_step: int

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure, log under ``eval_held_out_...``, and return it; empty when a resumed training starts."""
        if self.state.global_step == self._initial_global_step > 0:
            return {}
        metrics = {f"{PREFIX}{name}": value for name, value in self._measure().items()}
        Trainer.log(self, metrics)  # TRL's own evaluation would mix in what the current step has gathered so far
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _measure(self) -> dict[str, float]:
        model = self.accelerator.unwrap_model(self.model)
        training = model.training
        model.eval()
        size = self.task.settings.batch_size
        rows = self.task.held_out
        batches = [rows[i : i + size] for i in range(0, len(rows), size)]
        together = is_sharded(self)  # all processes must then do the same, with their part of the model
        mine = range(len(batches)) if together else range(
            self.accelerator.process_index, len(batches), self.accelerator.num_processes)
        devices = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            responses = self._responses(model, batches, mine)
            rows_measured = [row for i in mine for row in self._measure_batch(model, batches[i], responses[i])]
        model.train(training)
        return _means(rows_measured if together else gather_object(rows_measured))

    def _responses(
        self, model: Any, batches: Sequence[Sequence[TrainingRow]], mine: Iterable[int]
    ) -> dict[int, list[list[int]]]:
        """One response to each prompt of this process's batches, by whoever samples in training."""
        task, settings = self.task, self.task.settings
        prompts = [[row["prompt"] for row in rows] for rows in batches]
        if getattr(self, "use_vllm", False):
            torch.manual_seed(task.seed * SEEDS_APART + self.accelerator.process_index)
            responses = iter(sampled(self, [prompt for batch in prompts for prompt in batch]))
            return {i: [next(responses) for _ in batch] for i, batch in enumerate(prompts)}
        out = {}
        for i in mine:
            torch.manual_seed(task.seed * SEEDS_APART + i)
            with self.accelerator.autocast():  # around all tokens: the weights are cast once
                out[i] = sample(model, prompts[i], task.stops, task.pad, settings.max_tokens, settings.temperature)
        return out

    def _measure_batch(
        self, model: Any, rows: Sequence[TrainingRow], responses: list[list[int]]
    ) -> list[dict[str, float]]:
        settings = self.task.settings
        prompts = [row["prompt"] for row in rows]
        after = log_probabilities(model, prompts, responses, self.task.pad, settings.temperature)
        with self._reference() as reference:
            before = log_probabilities(reference, prompts, responses, self.task.pad, settings.temperature)
        out = [{"length": float(len(r)), "repetition": repetition(r), "kl": kl}
               for r, kl in zip(responses, (after - before).tolist(), strict=True)]
        if self.task.reward:
            columns = {name: [row[name] for row in rows] for name in rows[0] if name != "prompt"}
            scores = self.task.reward(prompts=prompts, completion_ids=responses, **columns)
            for row, more in zip(out, self._parts_of(len(out)), strict=True):
                row.update(more)
            for row, response, score in zip(out, responses, scores, strict=True):
                row["reward"] = shaped(settings, score, len(response), float(response[-1] in self.task.stops))
        return out

    def _parts_of(self, n: int) -> list[dict[str, float]]:
        """What each of the ``n`` responses that were just rewarded got of each part, if the reward has parts."""
        reward = self.task.reward
        if not isinstance(reward, Parted):
            return [{}] * n
        return [{f"{PART}{name}": value for name, value in zip(reward.names, values, strict=True)}
                for values in reward.values.tolist()]

    @contextmanager
    def _reference(self) -> Iterator[Any]:
        """The policy as it was before training: a separate model, or the policy with its adapters off."""
        if self.ref_model is not None:
            yield self.ref_model
            return
        model = self.accelerator.unwrap_model(self.model)
        with model.disable_adapter():
            yield model


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means, the standard error of the mean reward (none for one response), and the count. Of a part of the reward over
    the responses that have it, and nothing if none has."""
    out: dict[str, float] = {}
    for name in rows[0]:
        values = [row[name] for row in rows if not (name.startswith(PART) and math.isnan(row[name]))]
        out |= {name: math.fsum(values) / len(values)} if values else {}
    if "reward" in out and len(rows) > 1:
        deviations = math.fsum((row["reward"] - out["reward"]) ** 2 for row in rows)
        out["reward_se"] = math.sqrt(deviations / (len(rows) - 1) / len(rows))
    return {**out, "n": float(len(rows))}


def sample(
    model: Any, prompts: Sequence[list[int]], stops: Sequence[int], pad: int, max_tokens: int, temperature: float
) -> list[list[int]]:
    """One response to each prompt, up to and with its stop token if there is one."""
    ids, mask = _left_padded(prompts, pad, model.device)
    config = GenerationConfig(max_new_tokens=max_tokens, do_sample=True, temperature=temperature, top_k=0, top_p=1.0,
                              eos_token_id=list(stops), pad_token_id=pad)
    new = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)[:, ids.shape[1] :]
    return [_up_to_stop(row, stops) for row in new.tolist()]


def _up_to_stop(ids: list[int], stops: Sequence[int]) -> list[int]:
    ends = [i for i, token in enumerate(ids) if token in stops]
    return ids[: ends[0] + 1] if ends else ids


def log_probabilities(
    model: Any, prompts: Sequence[list[int]], responses: Sequence[list[int]], pad: int, temperature: float
) -> Tensor:
    """The log-probability (rows,) of each response as sampled at this temperature."""
    ids, mask = _left_padded([p + r for p, r in zip(prompts, responses, strict=True)], pad, model.device)
    width = max(map(len, responses))
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False,
                   logits_to_keep=width + 1).logits[:, :-1].float()
    chosen = (logits / temperature).log_softmax(-1).gather(-1, ids[:, -width:, None]).squeeze(-1)
    lengths = torch.tensor([len(r) for r in responses], device=ids.device)
    inside = torch.arange(width, 0, -1, device=ids.device) <= lengths[:, None]
    total: Tensor = (chosen * inside).sum(-1)
    return total


def _left_padded(rows: Sequence[list[int]], pad: int, device: Any) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(r)) + list(r) for r in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in rows], device=device)
    return ids, mask


def repetition(ids: Sequence[int], size: int = 4) -> float:
    """The share of a response's n-grams that occurred in it before; 0 for one too short to repeat any."""
    grams = [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
