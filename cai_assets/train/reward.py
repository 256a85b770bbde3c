"""The reward model (Bai et al. 2022, section 4.1): a scalar head on the starting policy.

Trained on pairs with the loss of ``soft_reward.py``. The published folder needs neither peft nor this package; beside
the weights is ``held_out.jsonl``: for each held-out pair its position in the job's data, both rewards and its label.
With ``input: principle`` a pair is seen after the principle that judged it (``principled.py``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cai_assets.engines.number_format import Format
from cai_assets.engines.templating import Templater, load_tokenizer
from cai_assets.evals.reward import Result, measure
from cai_assets.settings import Reward
from cai_assets.store.files import write_atomic
from cai_assets.train.data import TrainingRow, preference_rows, read_rows
from cai_assets.train.fit import Fit, too_long
from cai_assets.train.fit import metrics as fit_metrics
from cai_assets.train.job import Job
from cai_assets.train.lora import adapted, lora_config, merged
from cai_assets.train.principled import Measure, conditioned, controls
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.progress import Curves, Reporter
from cai_assets.train.run import COMMON_COLUMNS, load_scalar, loss_summary, publish, train, trainer_arguments
from cai_assets.train.scoring import score_ids
from cai_assets.train.sharding import sharded, whole_model

COLUMNS = {**COMMON_COLUMNS, "accuracy": "accuracy", "margin": "margin", "mean_reward": "reward"}
HELD_OUT = "held_out.jsonl"
COMMON = ("messages", "chosen", "rejected", "p_chosen", "held_out")


def run(job: Job, reporter: Reporter) -> None:
    """Train a reward model from ``job.base``, or take that as it is; measure it on the held-out pairs, publish it."""
    settings = Reward.model_validate(job.settings)
    tokenizer = reward_tokenizer(job)
    by_principle = settings.input == "principle"
    source = read_rows(job.data, [*COMMON, *(["principle", "principle_id"] if by_principle else [])])
    rows, fit = encoded(source, tokenizer, settings)
    limit = f"reward.max_length={settings.max_length}"
    training = [row for row in rows if not row["held_out"]]
    held_out = [row for row in rows if row["held_out"]]
    if not training and settings.model is None:
        raise TrainingProblem(
            f"{job.data}: no pair to train on fits {limit}"
            f" ({len(source)} pairs, {len(source) - len(rows)} too long, {len(held_out)} held out)"
        )
    if line := too_long(fit_metrics(fit), limit):
        reporter.say(f"warning: {line}")
    model, resumed, first = trained(job, settings, training, tokenizer, reporter)
    curve = Curves(job.curves).rows()
    metrics: dict[str, Any] = {"rows": len(training), **fit_metrics(fit), "resumed_from": resumed}
    metrics |= {"steps": len(curve), **loss_summary(curve)} if settings.model is None else {"taken": True}
    results = score_pairs(model, held_out, settings.batch_size, job.dtype) if first else []
    if by_principle:
        def measure_with(model: Any) -> Measure:
            return lambda rows: _measured(rows, model, tokenizer, settings, job.dtype) if first else []

        metrics["principles"] = controls(job, settings, source, measure_with(model), lambda job, rows: measure_with(
            trained(job, settings, _training(rows, tokenizer, settings), tokenizer, reporter)[0]))
    if first:
        metrics["held_out"] = measure(source, results)
        publish(job, model, tokenizer, metrics)
        lines = [json.dumps(asdict(r), allow_nan=False) + "\n" for r in results]
        write_atomic(job.final / HELD_OUT, "".join(lines).encode())


def trained(job: Job, settings: Reward, rows: list[TrainingRow], tokenizer: Any, reporter: Reporter
            ) -> tuple[Any, int, bool]:
    """The model, the step it resumed from, and whether this process is the first, which alone has it whole.

    With ``settings.model`` it is the base, which learns nothing.
    """
    if settings.model is not None:
        return load_scalar(job.base, tokenizer.pad_token_id), 0, True
    trainer = make_trainer(job, settings, rows, tokenizer)
    resumed = train(job, trainer, reporter, COLUMNS, shown=("loss", "accuracy"))
    model = whole_model(trainer, lambda: fresh_scalar(job, settings, tokenizer))
    first = trainer.is_world_process_zero()
    return merged(model) if first else model, resumed, first


def encoded(rows: Sequence[TrainingRow], tokenizer: Any, settings: Reward) -> tuple[list[TrainingRow], Fit]:
    """``preference_rows`` of pairs as the model reads them: after the row's principle, where it has one."""
    seen = [{**row, "messages": conditioned(row["messages"], row.get("principle"))} for row in rows]
    return preference_rows(seen, Templater(tokenizer), settings.max_length)


def _training(rows: Sequence[TrainingRow], tokenizer: Any, settings: Reward) -> list[TrainingRow]:
    return [row for row in encoded(rows, tokenizer, settings)[0] if not row["held_out"]]


def _measured(rows: Sequence[TrainingRow], model: Any, tokenizer: Any, settings: Reward, dtype: Format
              ) -> list[Result]:
    held_out = [row for row in encoded(rows, tokenizer, settings)[0] if row["held_out"]]
    return score_pairs(model, held_out, settings.batch_size, dtype)


def reward_tokenizer(job: Job) -> Any:
    """The base's tokenizer, with a padding token that is not its end-of-turn token."""
    tokenizer = load_tokenizer(job.base)
    padding = Templater(tokenizer).padding
    if padding is None:
        raise TrainingProblem(f"{job.base}: no special token can serve as padding; add one to the tokenizer")
    tokenizer.pad_token = padding
    return tokenizer


def make_config(job: Job, settings: Reward) -> Any:
    """The RewardConfig of a job."""
    from trl import RewardConfig

    # The rows already fit: TRL would drop the long ones instead.
    return RewardConfig(**trainer_arguments(job, settings), max_length=None)


def make_trainer(job: Job, settings: Reward, rows: list[TrainingRow], tokenizer: Any) -> Any:
    """The trainer of a job. ``rows`` have ``chosen_ids``, ``rejected_ids`` and ``p_chosen``."""
    from datasets import Dataset
    from transformers import set_seed

    from cai_assets.train.soft_reward import Collator, Float32Head, SoftRewardTrainer

    set_seed(job.seed)  # the new head is initialized at random
    model = load_scalar(job.base, tokenizer.pad_token_id, quantized=settings.quantized)
    model.score = Float32Head.around(model.score)
    return SoftRewardTrainer(
        reward=settings,
        model=model,
        args=sharded(make_config(job, settings)),
        data_collator=Collator(pad_token_id=tokenizer.pad_token_id),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora_config(settings.lora, "SEQ_CLS"),
    )


def fresh_scalar(job: Job, settings: Reward, tokenizer: Any) -> Any:
    """The model before training, whole, with its adapters if it has any."""
    from cai_assets.train.soft_reward import Float32Head

    model = load_scalar(job.base, tokenizer.pad_token_id)
    model.score = Float32Head.around(model.score)
    return adapted(model, settings.lora, "SEQ_CLS")


def score_pairs(model: Any, rows: list[TrainingRow], batch_size: int, dtype: Format = "float32") -> list[Result]:
    """The model's rewards of both responses of each pair. ``rows``: of ``preference_rows``."""
    chosen, rejected = (score_ids(model, [row[ids] for row in rows], batch_size, dtype=dtype)
                        for ids in ("chosen_ids", "rejected_ids"))
    return [Result(row["index"], better, worse, row["p_chosen"])
            for row, better, worse in zip(rows, chosen, rejected, strict=True)]
