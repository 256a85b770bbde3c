"""Perplexity on general text: exact, before and after, and a training that destroys the language is noticed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny_models import WORDS, make_job, supervised_data, tiny_tokenizer  # noqa: E402

from cai_assets.defs.checks.common import ability_is_kept  # noqa: E402
from cai_assets.pipeline.project import Project  # noqa: E402
from cai_assets.store.records import Record  # noqa: E402
from cai_assets.train.__main__ import run_job  # noqa: E402
from cai_assets.train.ability import BUNDLED, Fluency, ability, fluency, perplexity, read_texts  # noqa: E402
from cai_assets.train.problems import TrainingProblem  # noqa: E402
from cai_assets.train.progress import Reporter  # noqa: E402
from cai_assets.train.run import load_causal  # noqa: E402

SILENT = Reporter(lambda _: None)


@pytest.fixture
def general(tmp_path: Path) -> Path:
    path = tmp_path / "general.jsonl"
    path.write_text("".join(json.dumps({"text": " ".join(WORDS[i:] + WORDS[:i])}) + "\n" for i in range(6)))
    return path


def test_a_uniform_model_has_the_size_of_its_vocabulary(base: Path, general: Path) -> None:
    model = load_causal(base)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    found = perplexity(model, tiny_tokenizer(), read_texts(general), 64)
    assert found.perplexity == pytest.approx(len(tiny_tokenizer()), rel=1e-5)
    assert (found.tokens, found.texts) == (6 * (len(WORDS) - 1), 6)


def test_it_is_the_likelihood_of_each_token_given_its_window(base: Path, general: Path) -> None:
    model, tokenizer, nats, n = load_causal(base), tiny_tokenizer(), 0.0, 0
    texts = [*read_texts(general), "yes no maybe"]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        for start in range(0, len(ids), 4):
            window = ids[start : start + 4]
            with torch.no_grad():
                logps = model(torch.tensor([window])).logits[0].log_softmax(-1)
            nats -= sum(logps[i, token].item() for i, token in enumerate(window[1:]))
            n += len(window) - 1
    model.train()
    found = perplexity(model, tokenizer, texts, 4)
    assert found.tokens == n
    assert found.perplexity == pytest.approx(math.exp(nats / n), rel=1e-5)
    assert model.training


def test_a_training_that_destroys_the_language_fails_the_check(base: Path, general: Path, tmp_path: Path) -> None:
    project = Project.open({"data_root": str(tmp_path / "data")})
    for name, rate, kept in (("mild", 1e-6, True), ("harsh", 3e-2, False)):
        job = make_job(tmp_path / name, "supervised", base, supervised_data(16), epochs=4, learning_rate=rate)
        run_job(job.model_copy(update={"general_text": general}), SILENT)
        metrics = json.loads(job.metrics.read_text())
        found = metrics["ability"]
        assert (found["tokens"], found["texts"]) == (84, 6)
        assert found["perplexity_before"] == pytest.approx(
            perplexity(load_causal(base), tiny_tokenizer(), read_texts(general), 32).perplexity, rel=1e-6)
        assert found["perplexity_after"] == pytest.approx(
            perplexity(load_causal(job.final), tiny_tokenizer(), read_texts(general), 32).perplexity, rel=1e-4)
        record = Record(asset="sl_policy", partition="v", digest="d", path="p", details={"metrics": metrics})
        passed, why, numbers = ability_is_kept(project, record, "v")
        assert passed is kept
        assert "over 84 tokens" in why
        assert (numbers["perplexity_growth"] > 1.1) is not kept


def test_what_was_not_measured_is_said_not_judged(base: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, "supervised", base, supervised_data(4))
    assert fluency(job, None, None) is None
    assert ability(None, Fluency(2.0, 3, 1)) == {}
    record = Record(asset="sl_policy", partition="v", digest="d", path="p", details={"metrics": {}})
    passed, why, _ = ability_is_kept(Project.open({"data_root": str(tmp_path)}), record, "v")
    assert passed
    assert "not measured" in why


@pytest.mark.parametrize("text", ["", '{"texts": "x"}\n', "[1]\n", "not json\n", '{"text": 3}\n'])
def test_a_file_that_is_no_general_text_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "general.jsonl").write_text(text)
    with pytest.raises(TrainingProblem, match=r"general\.jsonl.*monitors\.general_text"):
        read_texts(tmp_path / "general.jsonl")


def test_the_bundled_text_is_there() -> None:
    texts = read_texts(BUNDLED)
    assert len(texts) == len(set(texts)) >= 30
    assert sum(len(t.split()) for t in texts) > 3000


@pytest.mark.parametrize(("limit", "texts"), [(None, 3), (2, 2), (9, 3)])
def test_at_most_so_many_texts_are_read_as_the_setting_says(
    limit: int | None, texts: int, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "general.jsonl").write_text((json.dumps({"text": " ".join(WORDS[:6])}) + "\n") * 3)
    job = make_job(tmp_path, "supervised", base, supervised_data(4)).model_copy(
        update={"general_text": tmp_path / "general.jsonl", "general_texts": limit})
    measured = fluency(job, load_causal(base), tiny_tokenizer())
    assert measured is not None
    assert measured.texts == texts
