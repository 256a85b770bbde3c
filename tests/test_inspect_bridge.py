"""Suites under Inspect: the same rows, the same numbers, and what fails is not scored. On the scripted engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from model_fixtures import prepared_model
from typer.testing import CliRunner

pytest.importorskip("inspect_ai", reason="inspect-ai is not installed")

import anyio
from inspect_ai.log import read_eval_log
from inspect_ai.model import ChatMessageUser, GenerateConfig, get_model
from inspect_ai.tool import ToolInfo

from cai_assets.cli import app
from cai_assets.engines import scripted
from cai_assets.engines.protocol import Call, Request, Sampling
from cai_assets.evals.judge import STEP as JUDGE
from cai_assets.evals.suites.run import judged
from cai_assets.inspect_bridge import rows as bridge_rows
from cai_assets.inspect_bridge.cases import case_of
from cai_assets.inspect_bridge.provider import RowFailed
from cai_assets.inspect_bridge.rows import Answers, UnknownPolicy, engine_of, opened, trained_prompts
from cai_assets.inspect_bridge.run import BridgeError, run_suites
from cai_assets.inspect_bridge.tasks import suite
from cai_assets.pipeline import evaluation as stages
from cai_assets.pipeline.project import Project
from cai_assets.steps.complete import Completer
from cai_assets.steps.respond import RESPOND

SUITES = ("ability", "harmful", "prefill")


def share(call: Call, of: str) -> int:
    """A number below 100 that the call decides."""
    text = of + "".join(m["content"] for m in call.messages) + str(call.sample)
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % 100


def reply(call: Call, request: Request) -> str:
    if share(call, "fails") < 15:
        raise ValueError("the answer failed")
    return "I can't help with that." if share(call, "refuses") < 40 else f" Here is {share(call, 'text')} of it. \n"


def score(call: Call, request: Request) -> tuple[float, ...]:
    if "Yes" in call.answers and share(call, "fails") < 10:
        raise ValueError("the judge failed")
    return tuple(-0.1 - share(call, answer) / 10 for answer in call.answers)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A scripted model that answers, refuses and fails, and two samples of each case."""
    monkeypatch.setattr(scripted, "default_reply", reply)
    monkeypatch.setattr(scripted, "default_score", score)
    yield {"data_root": str(tmp_path / "data"), "models": {"generator": {"source": "m", "backend": "scripted"}},
           "evaluation": {"suites": list(SUITES), "suite_cases": 12, "samples": 2, "confidence": 0.9,
                          "others": {"rival": {"source": "r", "backend": "scripted"}}}}
    bridge_rows._opened.cache_clear()


def ours(settings: dict[str, Any], policy: str) -> pl.DataFrame:
    """The metrics as the asset makes them."""
    project = Project.open(settings)
    s = project.settings
    cases = stages.suite_cases(s, trained_prompts(project, None))

    def complete(who: str) -> Completer:
        return Completer(engine_of(project, who), project.store, seed=s.seed)

    policies = {name: complete(name) for name in ("base", policy)}
    tries = [one for name in policies for one in stages.suite_tries(s, cases, complete=policies[name], policy=name)]
    done = judged(tries, policies=policies, judge=complete("judge"), style=s.labels.style)
    return stages.suite_tables(s, stages.Suites(cases, *done))[0].filter(policy=policy)


@pytest.mark.parametrize(("policy", "suites"), [("rival", SUITES), ("base_again", ("prefill",))])
def test_failed_and_ungraded_rows_count_as_they_do_for_the_asset(
    settings: dict[str, Any], tmp_path: Path, policy: str, suites: tuple[str, ...]
) -> None:
    metrics = ours(settings, policy)
    assert metrics["failed"].max() > 0  # type: ignore[operator]
    assert metrics.filter(measure="judged_compliance")["ungraded"].max() > 0  # type: ignore[operator]
    logs = run_suites(suites, policy, log_dir=tmp_path / "logs", settings=settings)
    assert [log.suite for log in logs] == list(suites)
    for log in logs:
        assert log.generated == 0
        assert log.reused > 0
        assert len(log.rows) == (1 if log.suite == "ability" else 5)
        for measure, value, low, high, n, unscored in log.rows:
            (m,) = metrics.filter(suite=log.suite, mode="all", measure=measure).to_dicts()
            assert (value, low, high, n) == pytest.approx((m["value"], m["low"], m["high"], m["n"])), measure
            assert unscored == m["ungraded"]
            assert log.failed == (0 if log.suite == "ability" else m["failed"])


def test_new_rows_are_made_once_and_are_those_that_the_asset_then_uses(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    (first,) = run_suites(["prefill"], "rival", log_dir=tmp_path / "logs", settings=settings)
    assert first.generated > 0
    (again,) = run_suites(["prefill"], "rival", log_dir=tmp_path / "logs", settings=settings)
    assert (again.generated, again.rows) == (0, first.rows)
    project = Project.open({**settings, "evaluation": {**settings["evaluation"], "suites": ["prefill"]}})
    cases = stages.suite_cases(project.settings, trained_prompts(project, None))
    complete = Completer(engine_of(project, "rival"), project.store, seed=project.settings.seed)
    for one in stages.suite_tries(project.settings, cases, complete=complete, policy="rival"):
        complete(RESPOND, one.calls)
    assert complete.usage["respond"].generated == 0


def test_a_log_holds_the_case_the_verdict_and_the_rows(settings: dict[str, Any], tmp_path: Path) -> None:
    (made,) = run_suites(["prefill"], "rival", log_dir=tmp_path, settings=settings)
    log = read_eval_log(made.path)
    assert log.eval.metadata["kind"] == "prefill"
    assert log.eval.metadata["in_training"] == 0
    store = opened(settings)[0].store
    for sample in log.samples:
        case = case_of(sample.metadata)
        assert sample.metadata["behaviour"] == case.behaviour
        events = [e for e in sample.events if e.event == "model" and e.output.metadata]
        keys = [e.output.metadata["row_key"] for e in events]
        assert store.known(RESPOND.name, keys[:1]) == set(keys[:1])
        assert store.known(JUDGE.name, keys[1:]) == set(keys[1:])
        if sample.error is None:
            assert sample.scores["refusal"].answer == sample.output.completion.strip()


def test_calls_that_come_together_go_out_together(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, run = [], Completer.__call__

    def counted(self: Completer, step: Any, calls: Sequence[Call], **more: Any) -> Any:
        sizes.append(len(calls))
        return run(self, step, calls, **more)

    monkeypatch.setattr(Completer, "__call__", counted)
    monkeypatch.setattr(scripted, "default_reply", lambda call, _: call.messages[0]["content"])
    answers, got = Answers(settings, "rival"), dict[int, str | None]()

    async def ask(i: int) -> None:
        call = Call(messages=({"role": "user", "content": f"number {i}"},), sampling=Sampling())
        got[i] = (await answers.row(call)).text

    async def all_of_them() -> None:
        for start in (0, 50):
            async with anyio.create_task_group() as group:
                for i in range(start, start + 50):
                    group.start_soon(ask, i)

    anyio.run(all_of_them)
    assert got == {i: f"number {i}" for i in range(100)}
    assert sizes == [50, 50]


def test_a_lost_engine_is_told_to_every_call_and_a_stopped_leader_leaves_nobody_waiting(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, told = Answers(settings, "rival"), []
    call = Call(messages=({"role": "user", "content": "x"},), sampling=Sampling())

    def lost(*_: Any, **__: Any) -> Any:
        raise OSError("out of memory")

    async def ask() -> None:
        try:
            await answers.row(call)
        except Exception as e:
            told.append(str(e))

    async def lose() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)

    async def stop_the_first() -> None:
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as first:
                    first.start_soon(ask)
                    await anyio.sleep(0)
                    group.start_soon(ask)
                    await anyio.sleep(0)
                    scope.cancel()

    with monkeypatch.context() as patch:
        patch.setattr(Completer, "__call__", lost)
        anyio.run(lose)
    assert told == ["out of memory"] * 3
    told.clear()
    anyio.run(stop_the_first)
    assert told == ["the evaluation was stopped"]
    anyio.run(ask)
    assert len(told) == 1 + (share(call, "fails") < 0)


def test_the_provider_serves_any_task_and_refuses_what_engines_cannot_do(settings: dict[str, Any]) -> None:
    model = get_model("cai/rival", settings=settings, memoize=False)

    async def ask(config: GenerateConfig, **more: Any) -> Any:
        return await model.generate([ChatMessageUser(content="How are you?")], config=config, **more)

    usual = anyio.run(ask, GenerateConfig())
    assert usual.metadata["status"] == "generated"
    assert usual.usage.output_tokens > 0
    again = anyio.run(ask, GenerateConfig())
    assert (again.completion, again.metadata["status"], again.usage.total_tokens) == (usual.completion, "reused", 0)
    other = anyio.run(ask, GenerateConfig(temperature=0.1, seed=3, max_tokens=5))
    assert other.metadata["row_key"] != usual.metadata["row_key"]
    with pytest.raises(ValueError, match="no tools"):
        anyio.run(lambda: ask(GenerateConfig(), tools=[ToolInfo(name="t", description="d")]))
    with pytest.raises(ValueError, match="one answer"):
        anyio.run(ask, GenerateConfig(num_choices=2))


def test_a_failed_row_is_an_error(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted.Scripted, "_answer", lambda *_: (_ for _ in ()).throw(ValueError("lost it")))
    model = get_model("cai/rival", settings=settings, memoize=False)
    with pytest.raises(RowFailed, match="lost it"):
        anyio.run(model.generate, "How are you?")


def test_policies_by_name(settings: dict[str, Any], tmp_path: Path) -> None:
    project = Project.open(settings)
    folder = project.layout.folder("checkpoints", "rl_policy", "0123456789abcdef")
    by_folder = engine_of(project, str(folder)).identity
    assert engine_of(project, "k1:0123456789ab").identity == by_folder
    assert engine_of(project, "base").identity == engine_of(project, "judge").identity != by_folder
    for unknown, says in (("rl_policy@none", "materialize it first"), ("nobody", "give sft_baseline"),
                          ("fedcba9876", "give sft_baseline")):
        with pytest.raises(UnknownPolicy, match=says):
            engine_of(project, unknown)


def test_what_cannot_run_is_told_before_anything_runs(settings: dict[str, Any], tmp_path: Path) -> None:
    for name, policy, says in (("jailbrake", "base", "did you mean 'jailbreak'"), ("harmful", "nobody", "no model"),
                               ("harmful", "rl_policy@x-v1-0", "is not materialized yet")):
        with pytest.raises(BridgeError, match=says):
            run_suites([name], policy, log_dir=tmp_path / "logs", settings=settings)
    assert not (tmp_path / "logs").exists()


def test_cases_near_a_training_prompt_are_left_out(settings: dict[str, Any], tmp_path: Path) -> None:
    plain = suite("harmful", settings=settings)
    text = plain.dataset[0].input[-1].text
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": text, "split": "train"}) + "\n")
    less = suite("harmful", settings={**settings, "prompts": {"paths": [str(tmp_path / "p.jsonl")]}})
    assert less.metadata["in_training"] == 1
    assert text not in {s.input[-1].text for s in less.dataset}


def test_the_command_prints_the_table(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_DATA_ROOT", settings["data_root"])
    monkeypatch.setenv("CAI_MODELS", json.dumps(settings["models"]))
    result = CliRunner().invoke(app, ["inspect", "ability", "--policy", "base", "--log-dir", str(tmp_path / "logs")])
    assert result.exit_code == 0, result.output
    assert "correct" in result.output
    assert f"inspect view --log-dir {tmp_path / 'logs'}" in result.output
    assert list((tmp_path / "logs").glob("*ability*.eval"))
    result = CliRunner().invoke(app, ["inspect", "nothing", "--policy", "base", "--log-dir", str(tmp_path / "logs")])
    assert result.exit_code == 2
    assert "no suite 'nothing'" in " ".join(result.output.split())


def test_another_data_root_in_the_environment_is_another_project(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_MODELS", json.dumps(settings["models"]))
    monkeypatch.setenv("CAI_EVALUATION__SUITE_CASES", "2")
    for name in ("one", "two"):
        monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path / name))
        (log,) = run_suites(["prefill"], "base", log_dir=tmp_path / "logs", settings={})
        assert log.generated > 0
        assert log.reused == 0
        assert {p.name for p in (tmp_path / name / "rows").iterdir()} == {"judge", "respond"}


@pytest.mark.long
@pytest.mark.model
def test_the_real_model_answers_and_grades_in_one_process(tmp_path: Path) -> None:
    """One engine in one thread serves the policy's texts, the judge's and the letters' probabilities."""
    settings = {"data_root": str(tmp_path / "data"), "generation": {"max_tokens": 8},
                "models": {"generator": str(prepared_model().path)},
                "evaluation": {"suite_cases": 2, "max_tokens": 8}, "engine": {"max_model_len": 1024}}
    try:
        logs = run_suites(["prefill", "ability"], "base", log_dir=tmp_path / "logs", settings=settings)
        again = run_suites(["prefill", "ability"], "base", log_dir=tmp_path / "logs", settings=settings)
    finally:
        bridge_rows._opened.cache_clear()
    assert all(log.generated and not log.failed and not log.reused for log in logs)
    assert all(not log.generated for log in again)
    assert [log.rows for log in again] == [log.rows for log in logs]
    assert all(0 <= float(value or 0) <= 1 for log in logs for name, value, *_ in log.rows if name != "words")
