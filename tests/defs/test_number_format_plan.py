"""A data root that was made in another number format is not made again in silence."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from histories import History
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.engines import number_format
from cai_assets.engines.number_format import Device
from cai_assets.engines.protocol import ModelIdentity
from cai_assets.engines.scripted import Scripted
from cai_assets.plan.formats import keeping
from cai_assets.plan.plan import make_plan

CAUSE = "engine.dtype: bfloat16 -> float32"


@pytest.fixture
def made(history: History, monkeypatch: pytest.MonkeyPatch) -> tuple[History, str]:
    """A version whose rows and checkpoints are bfloat16, on a machine whose processor has only float32."""
    monkeypatch.setattr(number_format, "device", lambda: Device("an old processor", ("float32",)))
    dtype: dict[str, Any] = {"engine": {"dtype": "bfloat16"}}
    identity = Scripted.identity.fget  # type: ignore[attr-defined]

    def with_format(self: Scripted) -> ModelIdentity:
        return identity(self).model_copy(update={"dtype": dtype["engine"]["dtype"]})

    monkeypatch.setattr(Scripted, "identity", property(with_format))
    history.settings |= dtype
    success, version = history.run(history.root / "data")
    assert success
    del history.settings["engine"]
    dtype["engine"] = {"dtype": "float32"}
    return history, version


def test_the_plan_names_the_format_and_the_setting_that_keeps_the_old_rows(
    made: tuple[History, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    history, version = made
    project = history.project(history.root / "data")
    plan = make_plan(project, version)
    new = [line for line in plan.lines if line.generate_max or line.trains]
    assert {"initial_responses", "critiques", "preference_pairs", "sl_policy", "rl_policy", "evaluation",
            "suite_results", "round_quality", "sft_baseline", "reward_model"} <= {line.asset for line in new}
    waiting = [line for line in new if CAUSE not in line.causes]  # for texts that are new themselves
    assert {line.asset for line in waiting} <= {"critiques", "revisions", "response_pairs", "preference_pairs",
                                                "round_quality"}
    assert {cause for line in waiting for cause in line.causes if not cause.endswith(" new")} <= {
        "the labeller's agreement with people is measured"}
    assert plan.line("initial_responses").causes == {CAUSE: plan.line("initial_responses").generate_max}
    note = keeping(project, plan.causes())
    assert note is not None
    assert "made in bfloat16" in note
    assert "-s engine.dtype=bfloat16" in note
    assert "an old processor" in note


def test_the_old_format_set_keeps_everything(made: tuple[History, str], monkeypatch: pytest.MonkeyPatch) -> None:
    history, version = made
    history.settings["engine"] = {"dtype": "bfloat16"}
    identity = Scripted.identity.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(Scripted, "identity", property(
        lambda self: identity(self).model_copy(update={"dtype": "bfloat16"})))
    project = history.project(history.root / "data")
    plan = make_plan(project, version)
    assert sum(line.generate_max for line in plan.lines) == 0
    assert not any(line.trains for line in plan.lines)
    assert keeping(project, plan.causes()) is None


def test_cai_plan_prints_it(made: tuple[History, str], monkeypatch: pytest.MonkeyPatch) -> None:
    history, version = made
    monkeypatch.chdir(history.root)
    settings = {**history.settings, "data_root": str(history.root / "data")}
    file = history.root / "settings.yaml"
    file.write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("CAI_SETTINGS", str(file))
    monkeypatch.setenv("DAGSTER_HOME", str(history.root))
    done = CliRunner().invoke(app, ["plan", version])
    assert done.exit_code == 0, done.output
    assert CAUSE in done.output
    assert "set engine.dtype=bfloat16" in " ".join(done.output.split())
