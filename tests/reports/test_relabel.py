"""The pairs of one version labeled by the other's constitution: flips in the default recipe, for the changed ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from histories import History, copy_instead_of_training
from tiny_models import tiny_model
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.constitution.draw import draw, label_key
from cai_assets.defs import launch
from cai_assets.reports.compare.gather import compare, with_relabeled
from cai_assets.reports.compare.page import render
from cai_assets.reports.compare.relabel import relabeling
from cai_assets.reports.compare.words import sentences

EDITED = 1


class Two:
    """Two versions in the default recipe: each samples its pairs from its own SL policy."""

    def __init__(self, root: Path) -> None:
        self.root, self.history = root, History(root, tiny_model(root / "tiny"))
        _, self.first = self.history.run(root / "data")
        principles = list(self.history.constitution.principles)
        edit = {"critique": "Is it rude?", "preference": "Which is shorter?"}
        self.edited = principles[EDITED].model_copy(update=edit)
        principles[EDITED] = self.edited
        self.history.constitution = self.history.constitution.model_copy(update={"principles": tuple(principles)})
        _, self.second = self.history.run(root / "data")
        self.project = self.history.project(root / "data")

    def command(self, patch: pytest.MonkeyPatch, *more: str) -> str:
        patch.setenv("CAI_DATA_ROOT", str(self.root / "data"))
        patch.setenv("CAI_MODELS", json.dumps(self.history.settings["models"]))
        patch.setenv("COLUMNS", "400")
        result = CliRunner().invoke(app, ["compare", self.first, self.second, *more])
        assert result.exit_code == 0, result.output
        return result.output


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_run", copy_instead_of_training)
        yield Two(tmp_path_factory.mktemp("relabel"))


def test_only_pairs_that_drew_the_edited_principle_are_asked_and_then_nothing(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compare(two.project.layout, two.first, two.second)
    assert found.labels is not None
    assert found.labels.shared == 0  # the SL policies differ, so their pairs do
    pairs = two.project.records.table(two.project.records.latest("response_pairs", two.first))
    fit = pairs.filter(pl.col("error").is_null(), ~pl.col("identical"))
    principles = two.history.constitution.taking_part("preference")
    drew = sum(draw(principles, label_key(p)).id == two.edited.id for p in fit["pair_id"])
    assert 0 < drew < fit.height
    wanted = relabeling(two.project, found.before, found.after)
    assert wanted is not None
    assert wanted.missing == 2 * drew
    assert f"takes {2 * drew} calls to the labeler" in two.command(monkeypatch)

    said = two.command(monkeypatch, "--label")
    assert f"The same pairs of {two.first} by the constitution of {two.second}: " in said
    assert "calls to the labeler" not in two.command(monkeypatch)  # stored now: told without being asked
    again = relabeling(two.project, found.before, found.after)
    assert again is not None
    assert again.missing == 0
    shown = with_relabeled(found, again.label())
    assert shown.relabeled is not None
    assert shown.relabeled.shared == shown.relabeled.before.consistent.n > 0
    moved = shown.relabeled.by_principle.filter(pl.col("mean shift") > 0)["principle"].to_list()
    assert set(moved) <= {two.edited.id}
    assert sum("The same pairs of" in s for s in sentences(shown)) == 1
    assert "The same pairs of" in render(shown)
    assert json.loads(two.command(monkeypatch, "--json"))["relabeled"]["shared"] == shown.relabeled.shared


def test_labels_of_another_labeler_are_not_mixed_with_these(two: Two) -> None:
    found = compare(two.project.layout, two.first, two.second)
    model = {"source": "another", "backend": "scripted"}
    other = type(two.project).open({**two.history.settings, "data_root": str(two.root / "data"), "models": {
        **two.history.settings["models"], "labeller": model}})
    wanted = relabeling(other, found.before, found.after)
    assert wanted is not None
    assert "another labeler than models.labeller is now" in wanted.why_not
