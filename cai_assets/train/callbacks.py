"""Callbacks of every trainer: curves, progress, stop on divergence, checkpoint markers.

Imports torch and transformers at the top; it is itself imported only inside functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from cai_assets.train.problems import TrainingProblem
from cai_assets.train.progress import Curves, Reporter
from cai_assets.train.resume import mark_complete
from cai_assets.train.rl_task import OURS
from cai_assets.train.trackers import Track


class Watch(TrainerCallback):  # type: ignore[misc]
    """Writes one curve row per step, reports it, and stops training when a number is not finite.

    ``columns`` maps names in the trainer's log to names in the curves, to which all of OURS are added; ``shown`` are
    the ones reported; ``updates`` optimizer updates make one step; ``track`` draws each row elsewhere, too.
    """

    def __init__(
        self, curves: Curves, reporter: Reporter, columns: Mapping[str, str], shown: tuple[str, ...], updates: int = 1
    ) -> None:
        self.curves, self.reporter = curves, reporter
        self.track: Track = lambda _step, _row: None
        self.columns, self.shown, self.updates = columns, shown, updates

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.reporter.begin(state.global_step // self.updates)
        if state.is_world_process_zero:
            self.curves.keep(state.global_step // self.updates)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        step = state.global_step // self.updates
        if "loss" not in logs:
            self._measured(step, logs, state.is_world_process_zero)
            return
        row = {name: logs[key] for key, name in self.columns.items() if logs.get(key) is not None}
        # TRL logs None for what is no number in all that it averages.
        row |= {key.removeprefix(OURS): math.nan if value is None else value
                for key, value in logs.items() if key.startswith(OURS)}
        wrong = [name for name, value in row.items() if not math.isfinite(value)]
        if wrong:
            raise TrainingProblem(
                f"{wrong[0]} is {row[wrong[0]]} at step {step} (learning rate {logs.get('learning_rate')}); nothing was"
                " published. Lower the learning rate or max_grad_norm, and check that the base model is sound"
            )
        if state.is_world_process_zero:
            self.curves.add({"step": step, **row})
            self.track(step, row)
        total = state.max_steps // self.updates
        self.reporter.step(step, total, {name: row[name] for name in self.shown if name in row})


    def _measured(self, step: int, logs: dict[str, Any], main_process: bool) -> None:
        """Attach a measurement on held-out prompts to its step; the one before the first step has no row."""
        held_out = {name.removeprefix("eval_"): value for name, value in logs.items()
                    if name.startswith("eval_held_out")}
        if held_out and step and main_process:
            self.curves.amend(step, held_out)
            self.track(step, held_out)
        if "held_out_reward" in held_out:
            self.reporter.say(f"held-out reward {held_out['held_out_reward']:.3g} after step {step}")


class Together(TrainerCallback):  # type: ignore[misc]
    """Has sampling from a sharded model go on in each process until all have ended: each holds a part of the weights.
    transformers does so only for models that it has divided itself."""

    def on_train_begin(self, *_: Any, model: Any, **__: Any) -> None:
        for module in model.modules():
            if hasattr(module, "generate"):
                module._is_fsdp_managed_module = True


class Seal(TrainerCallback):  # type: ignore[misc]
    """Marks each checkpoint as whole once everything in it is written, and saves none at the end of the training.

    Trainer saves after the last step whatever ``save_steps`` is: gigabytes of optimizer state, removed as soon as
    the model is published. Without it a killed training loses at most ``save_steps`` steps, as everywhere else.
    """

    def __init__(self, key: str) -> None:
        self.key = key

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step >= state.max_steps and not args.load_best_model_at_end:
            control.should_save = state.global_step % state.save_steps == 0

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # every process writes its own random state
        if state.is_world_process_zero:
            mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.key)
