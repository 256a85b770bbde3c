"""``cai verify --rebuild``: a version made anew in an empty root has the keys that its history left, or it is said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from histories import History, copy_instead_of_training
from tiny_models import tiny_model
from typer.testing import CliRunner, Result

from cai_assets.cli import app
from cai_assets.defs import launch, rebuild
from cai_assets.engines import scripted


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A root with a history: a version, an edited principle, and the version made incrementally after it."""
    folder = tmp_path_factory.mktemp("rebuilt")
    history = History(folder, tiny_model(folder / "tiny"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_run", copy_instead_of_training)
        assert history.run(folder / "data")[0]
        first, *others = history.constitution.principles
        edited = first.model_copy(update={"critique": "Say what is wrong now."})
        history.constitution = history.constitution.model_copy(update={"principles": (edited, *others)})
        done, version = history.run(folder / "data")
    assert done
    (folder / "settings.yaml").write_text(json.dumps({**history.settings, "data_root": str(folder / "data")}))
    return folder, version


@pytest.fixture
def verify(finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> object:
    folder, version = finished
    monkeypatch.setenv("CAI_SETTINGS", str(folder / "settings.yaml"))
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "home"))

    def called(*options: str) -> Result:
        return CliRunner().invoke(app, ["verify", "--rebuild", version, *options])

    return called


def words(result: Result) -> str:
    return " ".join(result.output.split())


def beside(finished: tuple[Path, str]) -> Sequence[Path]:
    return list(finished[0].glob(".cai-rebuild-*"))


def test_an_incremental_version_equals_one_that_is_made_anew(verify, finished) -> None:  # type: ignore[no-untyped-def]
    result = verify("--json")
    done = json.loads(result.stdout)
    assert (result.exit_code, done["difference"], done["equal"], done["anew"]) == (0, "", True, True)
    assert done["row_keys"] > 100
    assert done["checkpoints"] == 4
    assert beside(finished) == []


def test_of_a_real_engine_the_keys_are_enough_and_nothing_is_asked(  # type: ignore[no-untyped-def]
    verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> str:
        raise AssertionError("a model was asked")

    monkeypatch.setattr(scripted, "default_reply", never)
    monkeypatch.setattr(rebuild, "resolve_backend", lambda _: "vllm")
    assert "the answers were found by their keys" in words(verify())


def test_the_first_difference_is_named(verify, finished, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    result = verify("-s", "generation.max_tokens=17")
    assert result.exit_code == 1
    assert "not equal: initial_responses/all/000002: " in words(result)
    assert "row keys differ; the first, r1:" in words(result)
    monkeypatch.setattr(rebuild, "resolve_backend", lambda _: "vllm")
    assert "not equal: initial_responses failed: the row r1:" in words(verify("-s", "generation.max_tokens=17"))
    assert "the checkpoint " in words(verify("-s", "reward.learning_rate=0.3"))
    assert beside(finished) == []
