"""Whether training damaged the model's language ability: perplexity on held-out general text, before and after.

Perplexity is exp of the mean negative log-likelihood of a token, in nats, given the tokens before it in its window.
Exact: float32, no autocast, every token but the first of each window counts once. It is a cheap alarm, not a measure
of ability: a model may forget facts at the same perplexity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cai_assets.store.json_text import parse_json
from cai_assets.train.job import Job
from cai_assets.train.problems import TrainingProblem

BUNDLED = Path(__file__).parents[1] / "data" / "general.jsonl"
BATCH = 4
LARGEST_NATS = 700.0  # exp of anything larger is infinite, which JSON cannot represent


class Fluency(NamedTuple):
    """Perplexity over ``tokens`` predicted tokens of ``texts`` texts."""

    perplexity: float
    tokens: int
    texts: int


def fluency(job: Job, model: Any, tokenizer: Any) -> Fluency | None:
    """The model's perplexity on the job's general text; None if the job has none."""
    if job.general_text is None:
        return None
    texts = read_texts(job.general_text)[: job.general_texts]
    return perplexity(model, tokenizer, texts, int(job.settings["max_length"]))


def ability(before: Fluency | None, after: Fluency | None) -> dict[str, Any]:
    """The metric ``ability`` of a checkpoint; empty where nothing was measured."""
    if before is None or after is None:
        return {}
    return {"ability": {"perplexity_before": before.perplexity, "perplexity_after": after.perplexity,
                        "tokens": after.tokens, "texts": after.texts}}


def read_texts(path: Path) -> list[str]:
    """The ``text`` of each line of a JSONL file. Raise TrainingProblem if there is none."""
    try:
        lines = [parse_json(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        texts = [line["text"] for line in lines if line["text"].strip()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise TrainingProblem(f"{path}: not JSONL with a 'text' on each line ({e}); fix monitors.general_text") from e
    if not texts:
        raise TrainingProblem(f"{path}: no text to measure ability on; fix monitors.general_text")
    return texts


def perplexity(model: Any, tokenizer: Any, texts: Sequence[str], max_length: int) -> Fluency:
    """Perplexity over windows of at most ``max_length`` tokens; the model is left in the mode it was in."""
    import torch

    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    windows = [text[i : i + max_length] for text in ids for i in range(0, len(text), max_length)]
    windows = sorted((w for w in windows if len(w) > 1), key=len)  # group similar lengths to reduce padding
    was_training = model.training
    model.eval()
    with torch.inference_mode(), torch.autocast(model.device.type, enabled=False):
        nats = sum(_nats(model, windows[i : i + BATCH]) for i in range(0, len(windows), BATCH))
    model.train(was_training)
    tokens = sum(len(w) - 1 for w in windows)
    if not tokens:
        raise TrainingProblem("the general text is too short: it needs at least two tokens")
    return Fluency(math.exp(min(nats / tokens, LARGEST_NATS)), tokens, len(texts))


def _nats(model: Any, windows: Sequence[Sequence[int]]) -> float:
    """Summed negative log-likelihood of every token but the first of each window."""
    import torch

    batch = [torch.tensor(w, device=model.device) for w in windows]
    ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
    labels = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=-100)
    # Call the class's forward: accelerate wraps a trained instance's forward in autocast.
    logits = type(model).forward(model, input_ids=ids, attention_mask=(labels != -100).long(), use_cache=False).logits
    predicted = logits[:, :-1].float().flatten(0, 1)  # the class dimension in the middle would be three times slower
    loss = torch.nn.functional.cross_entropy(predicted, labels[:, 1:].flatten(), reduction="sum")
    return float(loss)
