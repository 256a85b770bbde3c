"""The curves of a training, drawn elsewhere: the rows of curves.jsonl and nothing else, and no reason to stop."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from tiny_models import make_job, supervised_data  # noqa: E402

from cai_assets.settings import Settings, SettingsError, load_settings  # noqa: E402
from cai_assets.train import trackers  # noqa: E402
from cai_assets.train.__main__ import run_job  # noqa: E402
from cai_assets.train.identity import recipe  # noqa: E402
from cai_assets.train.job import Job, Reports  # noqa: E402
from cai_assets.train.progress import Reporter  # noqa: E402
from cai_assets.train.trackers import refuse_missing, tracking  # noqa: E402


class Trackio:
    """Notes what the library is told; ``breaks``: from which row on it raises."""

    def __init__(self, breaks: int = 10**9) -> None:
        self.told: list[Any] = []
        self.breaks = breaks

    def init(self, **arguments: Any) -> None:
        self.told.append(("init", arguments))

    def log(self, row: dict[str, float], step: int) -> None:
        if len(self.told) > self.breaks:
            raise ConnectionError("gone")
        self.told.append((step, row))

    def finish(self) -> None:
        self.told.append("finish")


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> Trackio:
    library = Trackio()
    monkeypatch.setitem(sys.modules, "trackio", library)  # type: ignore[arg-type]
    monkeypatch.setenv("TRACKIO_DIR", "set by the user")
    return library


def reported(tmp_path: Path, base: Path) -> Job:
    job = make_job(tmp_path, "supervised", base, supervised_data(8), batch_size=4)
    return job.model_copy(update={"reports": Reports(to=("trackio",), run="sl_policy-0123", folder=tmp_path / "t")})


def test_a_training_tells_its_curves_and_nothing_else(trackio: Trackio, base: Path, tmp_path: Path) -> None:
    job = reported(tmp_path, base)
    run_job(job, Reporter(lambda _: None))
    rows = [json.loads(line) for line in job.curves.read_text().splitlines()]
    begin, *drawn, end = trackio.told
    assert begin == ("init", {"project": "cai-assets", "name": "sl_policy-0123", "resume": "allow",
                              "auto_log_gpu": False})
    assert [{"step": step, **row} for step, row in drawn] == rows
    assert len(rows) == 2
    assert end == "finish"


def test_one_that_breaks_is_named_once_and_the_training_goes_on(
    trackio: Trackio, base: Path, tmp_path: Path
) -> None:
    trackio.breaks = 0
    job, said = reported(tmp_path, base), list[str]()
    run_job(job, Reporter(said.append))
    assert job.metrics.exists()
    (line,) = [line for line in said if line.startswith("report_to")]
    assert "trackio draws no more of this training (ConnectionError: gone)" in line


def test_without_any_nothing_is_imported(tmp_path: Path) -> None:
    with tracking(None, pytest.fail) as track:
        track(1, {"loss": 1.0})
    assert not set(trackers.__dict__) & {"trackio", "wandb"}


def test_what_is_missing_or_would_ask_for_a_key_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="trackio is not installed: pip install trackio"):
        refuse_missing(["trackio"])
    monkeypatch.setattr(trackers, "find_spec", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match="wandb has no key"):
        refuse_missing(["wandb"])
    monkeypatch.setenv("WANDB_MODE", "offline")
    refuse_missing(["wandb", "trackio"])


def test_it_enters_no_key_and_no_page_may_set_it() -> None:
    plain, drawn = load_settings(environment={}), load_settings({"report_to": ["wandb"]}, environment={})
    assert drawn.report_to == ("wandb",)
    for kind in ("supervised", "reward", "reinforcement"):
        assert recipe(plain, kind) == recipe(drawn, kind)
    with pytest.raises(SettingsError, match="report_to"):
        load_settings(run_config={"report_to": ["wandb"]}, environment={})
    with pytest.raises(SettingsError, match="report_to"):
        load_settings({"report_to": ["excel"]}, environment={})
    assert Settings.model_fields["report_to"].default == ()
