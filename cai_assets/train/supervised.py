"""Supervised learning on revised responses (Bai et al. 2022, section 3): SL-CAI.

The loss is the negative log-likelihood of the response, its end-of-turn token included, and of nothing else.
"""

from __future__ import annotations

from typing import Any

from cai_assets.engines.templating import Templater, load_tokenizer
from cai_assets.settings import Training
from cai_assets.train.ability import ability, fluency
from cai_assets.train.data import TrainingRow, read_rows, supervised_rows
from cai_assets.train.fit import metrics as fit_metrics
from cai_assets.train.fit import too_long
from cai_assets.train.job import Job
from cai_assets.train.lora import lora_config
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.progress import Curves, Reporter
from cai_assets.train.run import COMMON_COLUMNS, load_causal, loss_summary, publish, train, trainer_arguments

COLUMNS = {**COMMON_COLUMNS, "mean_token_accuracy": "token_accuracy", "entropy": "entropy"}


def run(job: Job, reporter: Reporter) -> None:
    """Train ``job.base`` on the job's rows and publish the policy."""
    settings = Training.model_validate(job.settings)
    tokenizer = load_tokenizer(job.base)
    source = read_rows(job.data, ["messages", "response"])
    rows, fit = supervised_rows(source, Templater(tokenizer, job.thinking), settings.max_length)
    limit = f"sl.max_length={settings.max_length}"
    if not rows:
        raise TrainingProblem(f"no row of {job.data} fits into {limit}; {len(source)} dropped")
    if line := too_long(fit_metrics(fit), limit):
        reporter.say(f"warning: {line}")
    trainer = make_trainer(job, settings, rows, tokenizer)
    before = fluency(job, trainer.model, tokenizer)
    resumed = train(job, trainer, reporter, COLUMNS, shown=("loss",))
    if trainer.is_world_process_zero():
        metrics: dict[str, Any] = _counts(rows) | fit_metrics(fit) | {"resumed_from": resumed}
        curve = Curves(job.curves).rows()
        metrics |= {"steps": len(curve), **loss_summary(curve)}
        model = trainer.accelerator.unwrap_model(trainer.model)
        metrics |= ability(before, fluency(job, model, tokenizer))
        publish(job, model, load_tokenizer(job.base), metrics)


def make_config(job: Job, settings: Training) -> Any:
    """The SFTConfig of a job."""
    from trl import SFTConfig

    # The rows arrive tokenized, labeled and truncated: TRL must not change them.
    prepared = {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None}
    return SFTConfig(**trainer_arguments(job, settings), **prepared)


def make_trainer(job: Job, settings: Training, rows: list[TrainingRow], tokenizer: Any) -> Any:
    """The SFTTrainer of a job. ``rows`` have ``input_ids`` and ``labels``."""
    from datasets import Dataset
    from trl import SFTTrainer

    return SFTTrainer(
        model=load_causal(job.base),
        args=make_config(job, settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora_config(settings.lora, "CAUSAL_LM"),
    )


def _counts(rows: list[TrainingRow]) -> dict[str, int]:
    trained = sum(label != -100 for row in rows for label in row["labels"])
    return {"rows": len(rows), "tokens": sum(len(row["input_ids"]) for row in rows), "response_tokens": trained}
