"""Supervised learning on revised responses (Bai et al. 2022, section 3): SL-CAI.

The loss is the negative log-likelihood of the response, its end-of-turn token included, and of nothing else. Of texts
(kind 'texts', before this stage) it is that of every token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cai_assets.engines.templating import Templater, load_tokenizer
from cai_assets.settings import Tuning
from cai_assets.train.ability import ability, fluency
from cai_assets.train.data import TrainingRow, read_rows, supervised_rows, text_rows
from cai_assets.train.fit import Fit, too_long
from cai_assets.train.fit import metrics as fit_metrics
from cai_assets.train.identity import TRAINING_GROUP
from cai_assets.train.job import Job
from cai_assets.train.lora import lora_config
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.progress import Curves, Reporter
from cai_assets.train.run import (
    COMMON_COLUMNS,
    fresh_policy,
    load_causal,
    loss_summary,
    publish,
    train,
    trainer_arguments,
)
from cai_assets.train.sharding import sharded, whole_model

# What makes token ids of the rows, and of which columns.
ENCODED: dict[str, tuple[Callable[..., tuple[list[TrainingRow], Fit]], list[str]]] = {
    "texts": (text_rows, ["text"]), "supervised": (supervised_rows, ["messages", "response"])}
COLUMNS = {**COMMON_COLUMNS, "mean_token_accuracy": "token_accuracy", "entropy": "entropy"}


def run(job: Job, reporter: Reporter) -> None:
    """Train ``job.base`` on the job's rows and publish the policy."""
    settings = Tuning.model_validate(job.settings)
    tokenizer = load_tokenizer(job.base)
    encode, columns = ENCODED[job.kind]
    source = read_rows(job.data, columns)
    rows, fit = encode(source, Templater(tokenizer, job.thinking), settings.max_length)
    limit = f"{TRAINING_GROUP[job.kind]}.max_length={settings.max_length}"
    if not rows:
        raise TrainingProblem(f"no row of {job.data} fits into {limit}; {len(source)} dropped")
    if line := too_long(fit_metrics(fit), limit):
        reporter.say(f"warning: {line}")
    trainer = make_trainer(job, settings, rows, tokenizer)
    before = fluency(job, trainer.model, tokenizer)
    resumed = train(job, trainer, reporter, COLUMNS, shown=("loss",))
    model = whole_model(trainer, lambda: fresh_policy(job, settings))
    if trainer.is_world_process_zero():
        metrics: dict[str, Any] = _counts(rows) | fit_metrics(fit) | {"resumed_from": resumed}
        curve = Curves(job.curves).rows()
        metrics |= {"steps": len(curve), **loss_summary(curve)}
        metrics |= ability(before, fluency(job, model, tokenizer))
        publish(job, model, load_tokenizer(job.base), metrics)


def make_config(job: Job, settings: Tuning) -> Any:
    """The SFTConfig of a job."""
    from trl import SFTConfig

    # The rows arrive tokenized, labeled, truncated and packed: TRL must not change them.
    prepared = {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None,
                "padding_free": settings.packing != "none"}
    return SFTConfig(**trainer_arguments(job, settings), **prepared)


def make_trainer(job: Job, settings: Tuning, rows: list[TrainingRow], tokenizer: Any) -> Any:
    """The SFTTrainer of a job. ``rows`` have ``input_ids`` and ``labels``."""
    from trl import SFTTrainer

    return SFTTrainer(
        model=load_causal(job.base, quantized=settings.quantized),
        args=sharded(make_config(job, settings)),
        train_dataset=_sequences(rows, settings),
        processing_class=tokenizer,
        peft_config=lora_config(settings.lora, "CAUSAL_LM"),
    )


def _sequences(rows: list[TrainingRow], settings: Tuning) -> Any:
    """What a minibatch is made of: rows, or several rows in each sequence (best fit, Ding et al. 2024, arXiv
    2404.10830). ``seq_lengths`` then says where each begins: its positions start there, and attention stays in it."""
    from datasets import Dataset

    data = Dataset.from_list(rows)
    if settings.packing != "packed":
        return data
    from trl import pack_dataset

    return pack_dataset(data, settings.max_length, "bfd")


def _counts(rows: list[TrainingRow]) -> dict[str, int]:
    trained = sum(label != -100 for row in rows for label in row["labels"])
    return {"rows": len(rows), "tokens": sum(len(row["input_ids"]) for row in rows), "response_tokens": trained}
