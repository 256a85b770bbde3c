"""The reward model (Bai et al. 2022, section 4.1): a scalar head on the starting policy.

Trained on pairs with the Bradley-Terry loss, on the label taken as certain. Soft targets belong in ``compute_loss`` of
a RewardTrainer subclass that reads ``p_chosen``: the rows carry it already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cai_assets.engines.protocol import Message
from cai_assets.engines.templating import Templater, load_tokenizer
from cai_assets.settings import Reward
from cai_assets.train.data import Row, preference_rows, read_rows
from cai_assets.train.job import Job
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.progress import Curves, Reporter
from cai_assets.train.run import (
    COMMON_COLUMNS,
    bfloat16_is_fast,
    load_scalar,
    loss_summary,
    publish,
    train,
    trainer_arguments,
)

COLUMNS = {**COMMON_COLUMNS, "accuracy": "accuracy", "margin": "margin", "mean_reward": "reward"}


def run(job: Job, reporter: Reporter) -> None:
    """Train a reward model from ``job.base``, measure it on the held-out pairs, publish it."""
    settings = Reward.model_validate(job.settings)
    tokenizer = reward_tokenizer(job)
    source = read_rows(job.data, ["messages", "chosen", "rejected", "p_chosen", "held_out"])
    rows, dropped = preference_rows(source, Templater(tokenizer), settings.max_length)
    training = [row for row in rows if not row["held_out"]]
    held_out = [row for row in rows if row["held_out"]]
    if not training:
        raise TrainingProblem(
            f"{job.data}: no pair to train on fits reward.max_length={settings.max_length}"
            f" ({len(source)} pairs, {dropped} too long, {len(held_out)} held out)"
        )
    if dropped:
        reporter.say(f"warning: {dropped} of {len(source)} pairs dropped: a response alone fills reward.max_length")
    trainer = make_trainer(job, settings, training, tokenizer)
    resumed = train(job, trainer, reporter, COLUMNS, shown=("loss", "accuracy"))
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model)
        curve = Curves(job.curves).rows()
        metrics: dict[str, Any] = {"rows": len(training), "rows_dropped": dropped, "resumed_from": resumed}
        metrics |= {"steps": len(curve), **loss_summary(curve)}
        metrics["held_out"] = evaluate(model, held_out, settings.batch_size)
        publish(job, model, tokenizer, metrics)


def reward_tokenizer(job: Job) -> Any:
    """The base's tokenizer, with a padding token that is not its end-of-turn token.

    The model scores the last token that is not padding; with the two equal it would never see the end of turn.
    """
    tokenizer = load_tokenizer(job.base)
    stops = set(Templater(tokenizer).stop_token_ids)
    candidates = [tokenizer.pad_token, tokenizer.unk_token, tokenizer.bos_token, *tokenizer.all_special_tokens]
    for token in candidates:
        if token is not None and tokenizer.convert_tokens_to_ids(token) not in stops:
            tokenizer.pad_token = token
            return tokenizer
    raise TrainingProblem(f"{job.base}: no special token can serve as padding; add one to the tokenizer")


def make_config(job: Job, settings: Reward) -> Any:
    """The RewardConfig of a job."""
    from trl import RewardConfig

    # The rows are fitted already: TRL would drop the long ones instead.
    return RewardConfig(**trainer_arguments(job, settings), max_length=None)


def make_trainer(job: Job, settings: Reward, rows: list[Row], tokenizer: Any) -> Any:
    """The RewardTrainer of a job. ``rows`` have ``chosen_ids`` and ``rejected_ids``."""
    from datasets import Dataset
    from transformers import set_seed
    from trl import RewardTrainer

    set_seed(job.seed)  # the new head is random
    return RewardTrainer(
        model=load_scalar(job.base, tokenizer.pad_token_id),
        args=make_config(job, settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def score(model: Any, tokenizer: Any, conversations: Sequence[Sequence[Message]], batch_size: int = 8) -> list[float]:
    """Rewards of conversations that end with a response by the assistant. ``tokenizer`` is the reward model's own."""
    templater = Templater(tokenizer)
    sequences = []
    for *messages, response in conversations:
        prompt, ids = templater.encode_response(messages, response["content"])
        sequences.append(prompt + ids)
    return score_ids(model, sequences, batch_size)


def score_ids(model: Any, sequences: Sequence[Sequence[int]], batch_size: int = 8) -> list[float]:
    """Rewards of token sequences: what the head says at the last token of each, the end of turn if there is one."""
    import torch

    pad, device = model.config.get_text_config().pad_token_id, model.device
    rewards: list[float] = []
    was_training = model.training
    model.eval()
    for start in range(0, len(sequences), batch_size):
        batch = [torch.tensor(list(ids), device=device) for ids in sequences[start : start + batch_size]]
        padded = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=pad)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(x) for x in batch], batch_first=True)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast()):
            hidden = model.base_model(input_ids=padded, attention_mask=mask, use_cache=False).last_hidden_state
        rewards += _head(model, hidden, mask)
    model.train(was_training)
    return rewards


def _head(model: Any, hidden: Any, mask: Any) -> list[float]:
    # Outside autocast: in bfloat16 many rewards would tie.
    import torch

    with torch.inference_mode():
        last = hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]
        rewards: list[float] = model.score(last.to(model.score.weight.dtype))[:, 0].float().tolist()
    return rewards


def evaluate(model: Any, rows: list[Row], batch_size: int) -> dict[str, Any]:
    """Accuracy on held-out pairs with its 95% Wilson interval, beside that of always choosing the longer response."""
    if not rows:
        return {"n": 0, "accuracy": None}
    chosen = score_ids(model, [row["chosen_ids"] for row in rows], batch_size)
    rejected = score_ids(model, [row["rejected_ids"] for row in rows], batch_size)
    margins = [a - b for a, b in zip(chosen, rejected, strict=True)]
    lengths = [row[f"{side}_length"] for side in ("chosen", "rejected") for row in rows]
    longer = sum(row["chosen_length"] > row["rejected_length"] for row in rows)
    return {
        **_rate(sum(m > 0 for m in margins), len(rows)),
        "ties": sum(m == 0 for m in margins),
        "mean_margin": sum(margins) / len(margins),
        "length_correlation": correlation([float(x) for x in lengths], chosen + rejected),
        "longer_is_chosen": longer / len(rows),
    }


def correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's r, or None where it is undefined (fewer than three points, or a constant)."""
    import numpy as np

    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _rate(hits: int, n: int) -> dict[str, float]:
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return {"n": n, "accuracy": hits / n, "accuracy_low": float(interval.low), "accuracy_high": float(interval.high)}
