"""The real model in the loop: its critiques belong to their rows, and shuffling exchanges them. No text is judged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from model_fixtures import prepared_model

from cai_assets.constitution.load import load_file
from cai_assets.engines.protocol import Sampling
from cai_assets.engines.templating import load_tokenizer
from cai_assets.pipeline.project import Project
from cai_assets.settings import Critique, Generation
from cai_assets.steps.complete import Completer
from cai_assets.steps.critique import critique_and_revise
from cai_assets.steps.prompts import load_prompts
from cai_assets.steps.respond import respond
from cai_assets.steps.verdict import ANSWERS

pytestmark = [pytest.mark.model, pytest.mark.long]
CONSTITUTION = load_file(Path(__file__).parents[2] / "constitutions" / "harmlessness.yaml")
ROWS = 12
SHORT = Generation(max_tokens=32)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = tmp_path_factory.mktemp("loop")
    (root / "models").mkdir()
    model = prepared_model().path
    (root / "models" / model.name).symlink_to(model)
    opened = Project.open({"data_root": str(root)})
    yield opened
    opened.close()


def loop(project: Project, **settings: bool) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    complete = Completer(project.engines.open(project.settings.models.role("critic")), project.store, seed=0)
    asked = load_prompts((), max_chars=300).frame.filter(pl.col("kind") == "red-team").sort("prompt_id").head(ROWS)
    first = respond(asked, complete=complete, sampling=Sampling(max_tokens=SHORT.max_tokens))
    made = critique_and_revise(first, CONSTITUTION, complete=complete, generation=SHORT,
                               settings=Critique(rounds=1, **settings))
    return first, *made


def similarity(texts: list[str], others: list[str]) -> list[list[float]]:
    """TF-IDF cosine of each text to each other one, shape [texts, others]."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit_transform([*texts, *others])
    rows: list[list[float]] = (vectors[: len(texts)] @ vectors[len(texts) :].T).toarray().tolist()
    return rows


def test_critiques_are_of_their_own_rows_and_shuffled_ones_are_not(project: Project) -> None:
    first, critiques, own = loop(project)
    _, again, other = loop(project, shuffle=True)
    assert again["critique"].to_list() == critiques["critique"].to_list()
    assert (own["critique_of"] == own["prompt_id"]).all()
    assert (other["critique_of"] != other["prompt_id"]).all()
    assert set(own["row_key"]).isdisjoint(other["row_key"])
    assert own["revision"].to_list() != other["revision"].to_list()
    asked = [m[-1]["content"] + " " + r for m, r in first.sort("prompt_id").select("messages", "response").iter_rows()]
    table = similarity(critiques["critique"].to_list(), asked)
    same = sum(table[i][i] for i in range(ROWS)) / ROWS
    different = sum(table[i][j] for i in range(ROWS) for j in range(ROWS) if i != j) / (ROWS * (ROWS - 1))
    assert same > different, (same, different)


def test_yes_and_no_are_single_tokens_of_the_model() -> None:
    tokenizer = load_tokenizer(prepared_model().path)
    assert [len(tokenizer.encode(a, add_special_tokens=False)) for a in ANSWERS] == [1, 1]
