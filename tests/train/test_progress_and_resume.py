import json
import shutil
from pathlib import Path

import pytest

from cai_assets.train.progress import Curves, Reporter, open_reporter
from cai_assets.train.resume import MARKER, fault, mark_complete, newest_complete


def test_progress_is_said_first_last_and_seldom_between() -> None:
    said: list[str] = []
    reporter = Reporter(said.append, every=3600)
    reporter.begin(0)
    for step in range(1, 11):
        reporter.step(step, 10, {"loss": 2.3139})
    assert len(said) == 2
    assert said[0].startswith("step 1/10 · ")
    assert said[1].startswith("step 10/10 · ")
    assert " steps/s · 00:00 left · loss 2.31" in said[1]


def test_only_the_first_process_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    for main_process in (False, True):
        with open_reporter(main_process=main_process) as reporter:
            reporter.say("hello")
    assert capsys.readouterr().err == "hello\n"


def test_curves_survive_a_torn_line_and_forget_what_is_trained_again(tmp_path: Path) -> None:
    curves = Curves(tmp_path / "curves.jsonl")
    for step in (1, 2, 3):
        curves.add({"step": step, "loss": 0.5})
    with curves.path.open("a") as f:
        f.write('{"step": 4, "lo')
    assert [r["step"] for r in curves.rows()] == [1, 2, 3]
    curves.keep(2)
    curves.add({"step": 3, "loss": 0.1})
    assert [(r["step"], r["loss"]) for r in curves.rows()] == [(1, 0.5), (2, 0.5), (3, 0.1)]


def checkpoint(state: Path, step: int) -> Path:
    folder = state / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights" * 100)
    (folder / "optimizer.pt").write_bytes(b"moments" * 100)
    mark_complete(folder, "k1")
    return folder


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGE = {
    "empty folder": empty,
    "no marker": lambda c: (c / MARKER).unlink(),
    "torn marker": lambda c: (c / MARKER).write_text('{"key": '),
    "another job's": lambda c: mark_complete(c, "k2"),
    "no trainer state": lambda c: (c / "trainer_state.json").unlink(),
    "half the weights": lambda c: (c / "model.safetensors").write_bytes(b"weights" * 50),
    "zeroed optimizer": lambda c: (c / "optimizer.pt").write_bytes(bytes(700)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_checkpoint_that_is_not_whole_is_skipped_with_a_warning(tmp_path: Path, damage: str) -> None:
    good, bad = checkpoint(tmp_path, 4), checkpoint(tmp_path, 10)
    DAMAGE[damage](bad)
    said: list[str] = []
    assert newest_complete(tmp_path, "k1", said.append) == good
    assert len(said) == 1
    assert said[0].startswith("warning: checkpoint-10 is skipped: ")
    assert not bad.exists()


def test_the_newest_whole_checkpoint_is_taken_by_number(tmp_path: Path) -> None:
    checkpoint(tmp_path, 9)
    newest = checkpoint(tmp_path, 10)
    assert fault(newest, "k1") is None
    assert newest_complete(tmp_path, "k1", print) == newest
    assert "model.safetensors" in json.loads((newest / MARKER).read_text())["files"]
    assert newest_complete(tmp_path / "none", "k1", print) is None
