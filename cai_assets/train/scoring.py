"""Rewards of texts by a trained reward model, independent of the batch, in float32 from the head on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cai_assets.engines.number_format import Format, product_format
from cai_assets.engines.protocol import Message
from cai_assets.engines.templating import Templater, load_tokenizer
from cai_assets.train.run import load_scalar

TOKENS = 32_768
"""Of a batch on an accelerator, padding included."""


def score(model: Any, tokenizer: Any, conversations: Sequence[Sequence[Message]], batch_size: int = 8) -> list[float]:
    """Rewards of conversations that end with a response by the assistant. ``tokenizer`` is the reward model's own."""
    templater = Templater(tokenizer)
    sequences = []
    for *messages, response in conversations:
        prompt, ids = templater.encode_response(messages, response["content"])
        sequences.append(prompt + ids)
    return score_ids(model, sequences, batch_size)


def score_ids(
    model: Any, sequences: Sequence[Sequence[int]], batch_size: int = 8, *, dtype: Format = "float32"
) -> list[float]:
    """Rewards of token sequences: the head's output at the last token of each, the end of turn if there is one.

    Sequences of like length are scored together, so that little is padded: ``batch_size`` of them, on an accelerator as
    many as have ``TOKENS``, for which no gradients are kept. ``dtype``: the training run's number format, used for
    matrix products unless it would be emulated.
    """
    import torch

    pad, device = model.config.get_text_config().pad_token_id, model.device
    products = product_format(dtype)
    rewards = [0.0] * len(sequences)
    was_training = model.training
    model.eval()
    for places in _batches(sequences, batch_size, TOKENS if device.type != "cpu" else 0):
        batch = [torch.tensor(list(sequences[i]), device=device) for i in places]
        padded = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=pad)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(x) for x in batch], batch_first=True)
        with torch.inference_mode(), torch.autocast(device.type, getattr(torch, products), products != "float32"):
            hidden = model.base_model(input_ids=padded, attention_mask=mask, use_cache=False).last_hidden_state
        for i, reward in zip(places, _head(model, hidden, mask), strict=True):
            rewards[i] = reward
    model.train(was_training)
    return rewards


def on_device(path: Path) -> Any:
    """A trained reward model where this process computes, for scoring alone."""
    import torch

    model = load_scalar(path, load_tokenizer(path).pad_token_id)
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    return model.to(device).requires_grad_(False)


def _batches(sequences: Sequence[Sequence[int]], size: int, tokens: int) -> Iterator[list[int]]:
    """Places of sequences to score together, the longest first: memory that suffices for the first does for all."""
    places = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    while places:
        n = max(size, tokens // len(sequences[places[0]]))
        yield places[:n]
        places = places[n:]


def _head(model: Any, hidden: Any, mask: Any) -> list[float]:
    # Outside autocast: in bfloat16 many rewards would tie.
    import torch

    with torch.inference_mode():
        last = hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]
        rewards: list[float] = model.score(last.to(model.score.weight.dtype))[:, 0].float().tolist()
    return rewards
