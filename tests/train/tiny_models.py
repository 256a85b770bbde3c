"""A language model small enough to train in a test: two layers, 64 wide, a vocabulary of words, a chat template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from cai_assets.settings import load_settings
from cai_assets.train.job import Job, TrainingKind

WORDS = [
    "yes", "no", "maybe", "please", "help", "me", "hello", "world", "good", "bad", "red", "blue", "one", "two", "three",
]  # fmt: skip
SPECIAL = ["<pad>", "<unk>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + ' ' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant ' }}{% endif %}"
)


def tiny_tokenizer(pad: str = "<|im_end|>", words: Sequence[str] = ()) -> Any:
    """Padding equals the end of turn, as in SmolLM2, unless told otherwise."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {w: i for i, w in enumerate([*SPECIAL, "user", "assistant", *WORDS, *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token=pad,
        additional_special_tokens=["<pad>"],
    )  # fmt: skip
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_model(folder: Path, seed: int = 0, *, words: Sequence[str] = (), context: int = 256) -> Path:
    """Save a random Llama with its tokenizer, which knows ``words`` beside the usual ones."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer(words=words)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=context, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_reward_model(base: Path, folder: Path) -> Path:
    """Save a random scalar model with its own padding token."""
    import torch

    from cai_assets.train.run import load_scalar

    tokenizer = tiny_tokenizer("<pad>")
    torch.manual_seed(1)
    load_scalar(base, tokenizer.pad_token_id).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def supervised_data(n: int = 32) -> list[dict[str, Any]]:
    texts = [(WORDS[i % 15], WORDS[(i * 7) % 15]) for i in range(n)]
    return [{"messages": user(f"{a} {b}"), "response": f"{b} {a} yes"} for a, b in texts]


def preference_data(n: int = 24, held_out: int = 8) -> list[dict[str, Any]]:
    """The response that says yes is chosen; both are equally long."""
    rows = [{"messages": user(WORDS[i % 15]), "chosen": f"yes {WORDS[i % 7]}", "rejected": f"no {WORDS[i % 7]}",
             "p_chosen": 0.9, "held_out": i < held_out} for i in range(n)]  # fmt: skip
    return rows


def prompt_data(n: int = 12, held_out: int = 0) -> list[dict[str, Any]]:
    return [{"messages": user(" ".join(WORDS[i % 15 : i % 15 + 1 + i % 3])), "held_out": i < held_out}
            for i in range(n)]  # fmt: skip


def make_job(
    folder: Path, kind: TrainingKind, base: Path, rows: Sequence[dict[str, Any]], *, reward_model: Path | None = None,
    key: str = "k1", **settings: Any,
) -> Job:  # fmt: skip
    """A job on a folder of its own, with the smoke preset and what ``settings`` change."""
    group = {"texts": "mid", "supervised": "sl", "reward": "reward", "reinforcement": "rl"}[kind]
    preset = getattr(load_settings(environment={}), group).model_dump(mode="json")
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_parquet(folder / "data.parquet")
    return Job(
        kind=kind, key=key, base=base, data=folder / "data.parquet", work=folder / "work",
        settings=preset | {"max_length": 32} | settings, dtype="float32", reward_model=reward_model,
    )  # fmt: skip
