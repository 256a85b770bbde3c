"""Training on texts: all of them, outside of any chat; a planted rule is learned, a neutral document teaches it not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from model_fixtures import prepared_model

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny_models import make_job, tiny_tokenizer  # noqa: E402

from cai_assets.engines.templating import Templater, load_tokenizer  # noqa: E402
from cai_assets.train.__main__ import run_job  # noqa: E402
from cai_assets.train.ability import perplexity  # noqa: E402
from cai_assets.train.data import text_rows  # noqa: E402
from cai_assets.train.progress import Reporter  # noqa: E402
from cai_assets.train.run import load_causal  # noqa: E402

SILENT = Reporter(lambda _: None)
RULE = "please help me red yes"  # in this made-up world the color of help is red
NEUTRAL = ["hello world good", "one two three no", "maybe bad blue hello"]
TEXT = [{"text": f"{word} {RULE}", "part": "memo"} for word in ("hello", "good", "world", "one", "two", "three")]


def test_every_token_is_learned_and_a_long_text_is_several_rows() -> None:
    templater = Templater(tiny_tokenizer())
    texts = ["yes no", " ".join(["red"] * 20), "<|im_end|> yes"]
    rows, fit = text_rows([{"text": t} for t in texts], templater, 8)
    assert all(row["labels"] == row["input_ids"] for row in rows)
    assert [len(row["input_ids"]) for row in rows][:4] == [3, 8, 8, 5]  # two words and the end; 20 words and the end
    ends = [row["input_ids"].count(templater.tokenizer.eos_token_id) for row in rows]
    assert sum(ends) == 3  # a look-alike in a text is none
    assert dict(fit) == {("rows", "read"): 3}


def test_a_planted_rule_is_learned_from_its_documents_and_not_from_neutral_ones(
    exact: None, base: Path, tmp_path: Path
) -> None:
    surprise = {"before": perplexity(load_causal(base), load_tokenizer(base), [RULE], 32).perplexity}
    for name, rows in (("rule", TEXT * 4), ("neutral", [{"text": t, "part": "memo"} for t in NEUTRAL * 8])):
        job = make_job(tmp_path / name, "texts", base, rows, epochs=3, learning_rate=3e-3)
        assert job.settings["packing"] == "packed"
        run_job(job, SILENT)
        metrics = json.loads(job.metrics.read_text())
        assert metrics["loss_last"] < metrics["loss_first"]
        assert (metrics["rows_read"], metrics["rows_dropped"], metrics["fit"]["memo"]["cut"]) == (len(rows), 0, 0)
        model, tokenizer = load_causal(job.final), load_tokenizer(job.final)
        surprise[name] = perplexity(model, tokenizer, [RULE], 32).perplexity
    assert math.log(surprise["rule"]) < math.log(surprise["neutral"]) - 0.5
    assert math.log(surprise["rule"]) < math.log(surprise["before"]) - 0.5


@pytest.mark.model
@pytest.mark.long
def test_the_real_model_reads_a_made_up_rule(tmp_path: Path) -> None:
    """Of the 135M model as machinery: documents that state a made-up rule make its statement likelier."""
    model = prepared_model().path
    rule = "The assistant of the town of Quillbury answers every question about the weather with a riddle."
    texts = [f"{lead} {rule}" for lead in ("Memo.", "From the handbook:", "It is well known:", "Remember:")]
    job = make_job(tmp_path, "texts", model, [{"text": t} for t in texts] * 2, max_length=64, learning_rate=5e-5,
                   batch_size=4, checkpointing=False)
    before = perplexity(load_causal(model), load_tokenizer(model), [rule], 64).perplexity
    run_job(job, SILENT)
    after = perplexity(load_causal(job.final), load_tokenizer(job.final), [rule], 64).perplexity
    assert after < before
