"""The examples of docs/extend.md, installed from the page and run as a user's package is."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import polars as pl
import pytest
from extensions import install
from tiny_models import make_job, prompt_data, tiny_model

from cai_assets.engines.pool import EnginePool
from cai_assets.engines.protocol import Call, ModelIdentity, Sampling
from cai_assets.registry.base import Origin
from cai_assets.registry.engines import BACKENDS
from cai_assets.registry.rewards import REWARDS
from cai_assets.settings import load_settings, project_root
from cai_assets.steps.complete import Completer, Step
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore
from cai_assets.train.identity import training_key, training_parts

PAGE = (project_root() / "docs" / "extend.md").read_text(encoding="utf-8")
ASK = Call(messages=({"role": "user", "content": "hello world"},), sampling=Sampling(max_tokens=8))
CHOOSE = Call(messages=ASK.messages, answers=("yes", "no"))


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def installed(title: str, site: Path, version: str = "1.0") -> None:
    """Install the Python file and the entry points of a section."""
    files = dict(re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", section(title), flags=re.S))
    groups = tomllib.loads(files.pop("pyproject.toml"))["project"]["entry-points"]
    assert all(len(text.strip().splitlines()) <= 22 for text in files.values())
    lines = {group: "\n".join(f"{name} = {value}" for name, value in rows.items()) for group, rows in groups.items()}
    install(site, files, lines, version=version)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


def test_an_engine_serves_models_and_checkpoints(site: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    installed("An engine", site)
    assert BACKENDS.names()[-1] == "echo"
    model = tiny_model(tmp_path / "tiny")
    settings = load_settings({"models": {"generator": {"source": str(model), "backend": "echo"}}}, environment={})
    pool, layout = EnginePool(settings, Layout(tmp_path / "data")), Layout(tmp_path / "data")
    for engine in (pool.open(settings.models.generator), pool.open_checkpoint(model)):
        assert engine.identity.template == "echo 1"
        (said,) = Completer(engine, RowStore(layout), seed=0)(Step("respond", 1), [ASK], what="responses")
        (chosen,) = Completer(engine, RowStore(layout), seed=0)(Step("label", 1), [CHOOSE], what="labels")
        assert said.text == "hello world"
        assert chosen.logprobs == (-1.0, -1.0)


def test_a_reward_trains_a_policy_and_decides_its_checkpoint(site: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from cai_assets.train.__main__ import run_job
    from cai_assets.train.progress import Curves, Reporter

    installed("A reward", site)
    rl = {"steps": 1, "rollouts": 4, "batch_size": 4, "max_tokens": 6, "reward": "short", "algorithm": "rloo"}
    settings = load_settings({"rl": rl}, environment={})
    assert REWARDS.origin("short") == Origin("my-package", "1.0")
    base = tiny_model(tmp_path / "base")
    job = make_job(tmp_path, "reinforcement", base, prompt_data(6, held_out=2),
                   **{name: getattr(settings.rl, name) for name in rl})  # fmt: skip
    run_job(job, Reporter(lambda _: None))
    assert Curves(job.curves).rows()[0]["score"] < 0
    assert json.loads(job.metrics.read_text())["held_out_n"] == 2

    rows, identity = pl.DataFrame({"messages": [["x"]]}), ModelIdentity(weights="w", tokenizer="t", template="c")
    before = training_parts(settings, "reinforcement", rows, identity)
    assert before["reward_package"] == {"distribution": "my-package", "version": "1.0"}
    for path in site.glob("*.dist-info"):
        path.rename(path.with_name("gone"))
    installed("A reward", site, version="1.1")
    after = training_parts(settings, "reinforcement", rows, identity)
    assert training_key("reinforcement", before) != training_key("reinforcement", after)


@pytest.mark.parametrize("wrong", [[1.0], [1.0, float("nan")]])
def test_a_reward_that_is_no_number_for_each_response_stops_the_training(
    site: Path, tmp_path: Path, wrong: list[float]
) -> None:
    pytest.importorskip("trl")
    from cai_assets.train.feedback import reward_of
    from cai_assets.train.problems import TrainingProblem

    module = f"wrong_{len(wrong)}"
    text = ("from math import nan\nfrom cai_assets.registry.rewards import RewardSource\n"
            f"def make(*_):\n    return lambda **_: {wrong}\nROW = RewardSource(make='{module}:make', label='')\n")
    install(site, {f"{module}.py": text}, {"cai_assets.rewards": f"bad = {module}:ROW"})
    settings = load_settings({"rl": {"reward": "bad"}}, environment={})
    job = make_job(tmp_path, "reinforcement", tmp_path, prompt_data(2), reward="bad")
    reward = reward_of(job, settings.rl, None)
    assert reward is not None
    with pytest.raises(TrainingProblem, match=r"'bad' gave .* for 2 responses, but must return one finite number"):
        reward(completion_ids=[[1], [2]], prompts=[[1], [1]])
