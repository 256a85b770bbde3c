"""A program of another environment trains: it keeps the contract of docs/external.md, or its result is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import stand_in  # noqa: E402
from patience import until  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from tiny_models import make_job, prompt_data  # noqa: E402

from cai_assets.defs.launch import stop_group  # noqa: E402
from cai_assets.engines.models import identify_tokenizer  # noqa: E402
from cai_assets.settings import SettingsError, load_settings  # noqa: E402
from cai_assets.train.external import refuse_missing_command  # noqa: E402
from cai_assets.train.identity import recipe  # noqa: E402
from cai_assets.train.job import Job  # noqa: E402
from cai_assets.train.problems import TrainingProblem  # noqa: E402
from cai_assets.train.returned import take_in  # noqa: E402

BROKEN = {
    "no folder": "there is no folder", "pickle": "training_args.bin is not read, because opening such files can run",
    "hidden pickle": "notes.txt is a pickle", "link": "extra.json is a link", "code": "'auto_map' asks to run code",
    "other architecture": "architectures ['OtherForCausalLM'], and the model that it was trained from ['LlamaFor",
    "other shape": "1 tensors have another shape: model.norm.weight", "a tensor less": "1 tensors are missing",
    "cut": "model.safetensors is cut", "not finite": "model.norm.weight has numbers that are not finite",
    "other vocabulary": "has another vocabulary", "other template": "its chat template is not that of the model",
    "metrics": "kl_max is 'large': give finite numbers, or null", "curves": "each line needs a 'step'",
}


def external(how: str = "keeps", version: str = "1") -> dict[str, Any]:
    return {"command": [sys.executable, stand_in.__file__, how], "version": version}


def job_of(folder: Path, base: Path, how: str = "keeps") -> Job:
    return make_job(folder, "reinforcement", base, prompt_data(12, held_out=3), algorithm="external",
                    external=external(how))


def started(job: Job) -> subprocess.Popen[str]:
    """As a step of Dagster starts it."""
    file = job.work.parent / "job.json"
    file.write_text(job.model_dump_json())
    return subprocess.Popen([sys.executable, "-m", "cai_assets.train", str(file)], text=True, stderr=subprocess.PIPE,
                            start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_what_keeps_the_contract_is_published_as_a_training_of_our_own_is(base: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path, base)
    run = started(job)
    said = run.communicate()[1]
    assert run.returncode == 0, said
    assert f"reads {job.data}" in said
    before, after = (load_file(folder / "model.safetensors") for folder in (base, job.final))
    assert all(torch.allclose(after[name], before[name] + 0.01) for name in before)
    assert identify_tokenizer(job.final) == identify_tokenizer(base)
    assert json.loads(job.metrics.read_text()) == {"steps": 2, "kl_max": 0.1, "kl_last": 0.1}
    assert len(job.curves.read_text().splitlines()) == 2


@pytest.mark.parametrize("how", BROKEN)
def test_what_breaks_it_is_refused_in_one_line(how: str, base: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path, base, how)
    job.work.mkdir()
    (tmp_path / "job.json").write_text(job.model_dump_json())
    assert stand_in.main(how, str(tmp_path / "job.json")) == 0
    with pytest.raises(TrainingProblem) as refused:
        take_in(job, print)
    assert BROKEN[how] in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("how", "why"), [
    ("fails", "ended with exit code 3; its last lines: reads {data} | CUDA error: | out of memory"),
    ("dies", "was killed by signal 9; its last lines: reads {data}"),
])
def test_a_program_that_fails_is_told_with_its_last_lines(how: str, why: str, base: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path, base, how)
    run = started(job)
    assert run.communicate()[1].count("training failed: ") == run.returncode == 1
    assert job.error.read_text() == f"rl.external.command {why.format(data=job.data)}"
    assert not job.final.exists()


def test_all_that_it_started_ends_with_a_run_that_is_terminated(base: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path, base, "hangs")
    run = started(job)
    child = job.work / "child"
    until(lambda: child.exists() and child.read_text() != "")
    pid = int(child.read_text())
    assert psutil.pid_exists(pid)
    stop_group(run)  # type: ignore[arg-type]
    run.communicate()
    assert run.returncode != 0
    assert not psutil.pid_exists(pid)


def test_command_and_version_decide_the_key_and_are_for_the_users_own_hand() -> None:
    def key(**rl: Any) -> Any:
        return recipe(load_settings({"rl": rl}, environment={}), "reinforcement")

    assert key() == key(external=external()), "another algorithm does not read them"
    keys = [key(algorithm="external", external=e) for e in (external(), external(version="2"), external("other"))]
    assert len({json.dumps(k, sort_keys=True) for k in keys}) == 3
    own = {"rl": {"external": external()}}
    assert load_settings(own, run_config={"rl": {"algorithm": "external"}}, environment={}).rl.here is False
    for config in ({"command": ["/bin/sh"]}, {"version": "2"}):
        with pytest.raises(SettingsError, match=r"rl\.external is not for a run to choose"):
            load_settings(own, run_config={"rl": {"algorithm": "external", "external": config}}, environment={})
    missing = load_settings({"rl": {"algorithm": "external", "external": {"command": ["no-such"], "version": "1"}}},
                            environment={})
    with pytest.raises(TrainingProblem, match="there is no program 'no-such' here"):
        refuse_missing_command(missing)


@pytest.mark.parametrize(("rl", "why"), [
    ({"algorithm": "external"}, "set external.command and external.version"),
    ({"algorithm": "external", "external": external(), "reward": "rubric"}, "set 'model' or 'labeller'"),
    ({"algorithm": "external", "external": external(), "checks": 1.0}, "set checks=0"),
])
def test_what_such_a_program_cannot_do_is_refused(rl: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        load_settings({"rl": rl}, environment={})
