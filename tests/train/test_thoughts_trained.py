"""What is learned of thoughts: nothing where they are given, all of them where they are to be learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chat_templates as known
import polars as pl
import pytest
from byte_tokens import byte_tokenizer, templater, user
from tiny_models import make_job, tiny_model

from cai_assets.engines.protocol import Call, ModelIdentity, Sampling
from cai_assets.engines.templating import Templater
from cai_assets.pipeline.roles import Base
from cai_assets.pipeline.trainings import _supervised
from cai_assets.settings import load_settings
from cai_assets.train.data import supervised_rows
from cai_assets.train.identity import training_key

FAMILIES = pytest.mark.parametrize("text", [known.QWEN3, known.R1, known.OLMO_THINK, known.SMOLLM3, known.GPT_OSS,
                                            known.APERTUS, known.CLOSED, known.EFFORT])
ROW = {"messages": [user("Is it?")], "response": "Yes."}


def trained(t: Templater, **thought: str) -> tuple[str, str]:
    """All of a row, and what of it is learned."""
    [row], _ = supervised_rows([ROW | thought], t, 512)
    learned = [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
    return t.tokenizer.decode(row["input_ids"]), t.tokenizer.decode(learned)


@FAMILIES
def test_a_thought_that_is_given_is_read_and_not_learned(text: str) -> None:
    t = Templater(templater(byte_tokenizer(), text).tokenizer, "keep")
    whole, learned = trained(t, thought_given="Let me see.")
    assert whole.startswith(t.tokenizer.decode(t.encode(Call(messages=(user("Is it?"),), sampling=Sampling()))))
    assert whole.count("Let me see.") == 1
    assert whole.index("Let me see.") < whole.index("Yes.")
    assert "Let me see." not in learned
    assert learned.startswith("Yes.")


@FAMILIES
def test_a_thought_that_is_learned_is_written_as_the_model_writes_it(text: str) -> None:
    t = Templater(templater(byte_tokenizer(), text).tokenizer, "keep")
    whole, learned = trained(t, thought_learned="Let me see.")
    said = t.said(Call(messages=(user("Is it?"),), sampling=Sampling()), learned)
    assert (said.state, said.thought) == ("valid", "Let me see.")
    assert said.answer.removesuffix("<|im_end|>") in {"Yes.", "Yes.</s>"} or said.answer == "Yes."
    assert t.thinking
    assert whole.count(t.thinking.begin.strip()) == 1, "one thought, and no empty one before it"


def test_thoughts_are_trained_on_where_the_policy_keeps_them_and_only_then_in_the_key(tmp_path: Path) -> None:
    rows = pl.DataFrame([ROW | {"thought": "Let me see.", "thought_state": "valid"}])

    def data(thinking: str, mode: str) -> tuple[list[str], str]:
        settings = load_settings({"supervised": {"thoughts": mode}})
        base = Base("m", tmp_path, ModelIdentity(weights="w", tokenizer="t", template="p", thinking=thinking))
        training = _supervised("sl_policy", rows, base, settings)
        return training.data.columns, training_key("supervised", training.parts(settings))

    found = {(thinking, mode): data(thinking, mode) for thinking in ("", "off", "keep") for mode in ("mask", "train")}
    assert found["", "mask"] == found["", "train"]
    assert found["", "mask"][0] == ["messages", "response"]
    assert found["keep", "mask"][0][-1] == "thought_given"
    assert found["keep", "train"][0][-1] == "thought_learned"
    assert len({key for _, key in found.values()}) == 4


@pytest.mark.parametrize(("column", "learns"), [("thought_given", False), ("thought_learned", True)])
def test_no_gradient_goes_through_a_thought_that_is_given(tmp_path: Path, column: str, learns: bool) -> None:
    """The real model class and TRL's own loss: changing a thought's own tokens changes the loss of what follows, but
    only a learned thought is a target."""
    import torch
    from transformers import AutoModelForCausalLM

    from cai_assets.engines.templating import load_tokenizer
    from cai_assets.settings import Tuning
    from cai_assets.train.supervised import make_trainer

    template = known.QWEN3.replace("\n", " ").replace("<think>", "<think> ").replace("</think>", " </think> ")
    base = tiny_model(tmp_path / "base", words=["<think>", "</think>", "why"])
    (base / "chat_template.jinja").write_text(template)
    tokenizer = load_tokenizer(base)
    t = Templater(tokenizer, "keep")
    rows, _ = supervised_rows([{"messages": [user("hello")], "response": "yes", column: "why why why"}], t, 64)
    job = make_job(tmp_path / "job", "supervised", base, [])
    trainer = make_trainer(job, Tuning.model_validate(job.settings), rows, tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))
    why = tokenizer.convert_tokens_to_ids("why")
    assert (batch["input_ids"] == why).sum() == 3
    assert (batch["labels"] == why).sum() == (3 if learns else 0)
    model = AutoModelForCausalLM.from_pretrained(base)
    logits = model(input_ids=batch["input_ids"]).logits
    logits.retain_grad()
    loss: Any = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
    loss.backward()
    targets = (batch["input_ids"][0, 1:] == why).nonzero().flatten()
    moved = logits.grad[0, targets].abs().sum().item()
    assert (moved > 0) is learns
