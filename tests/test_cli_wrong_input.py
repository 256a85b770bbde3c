"""Wrong input at every verb: one message, exit code 1 or 2, never a traceback.

The verbs and what they take come from the app itself, so that a new one is tried too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cai_assets.cli import app
from cai_assets.cli.verbs import loaded
from cai_assets.web import serve

MOST_LINES = 8  # of a message; a usage error of the command line itself has some


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with what it is called by."""
    inside = getattr(command, "commands", None)
    if inside is None:
        yield path, command
    for name, one in (inside or {}).items():
        yield from verbs(one, (*path, name))


VERBS = list(verbs(loaded()))
every_verb = pytest.mark.parametrize(("path", "command"), VERBS, ids=[" ".join(path) for path, _ in VERBS])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dagster's, made once: that takes it a second."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def place(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a constitution, an empty folder, a file that is no text, and nothing else."""
    (tmp_path / "constitutions").mkdir()
    (tmp_path / "constitutions" / "mild.yaml").write_text(
        'version: "v1"\nprinciples:\n  - {id: harm, critique: Find harm., revision: Remove harm.}\n')
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary.bin").write_bytes(bytes(range(256)))
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(tmp_path / "constitutions"))
    monkeypatch.setenv("CAI_MODELS__GENERATOR", '{"source": "scripted", "backend": "scripted"}')
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.chdir(tmp_path)

    monkeypatch.setattr(serve, "serve", lambda *_, **__: None)
    return tmp_path


def parameters(command: Any, kind: str) -> list[Any]:
    return [p for p in command.params if p.param_type_name == kind]


def given(command: Any, word: str, out: str) -> list[str]:
    """A word for every argument, and a place for every option that must be given."""
    needed = [x for p in parameters(command, "option") if p.required for x in (p.opts[0], out)]
    return [*(word for _ in parameters(command, "argument")), *needed]


def refused(path: tuple[str, ...], arguments: list[str]) -> Result:
    result = CliRunner().invoke(app, [*path, *arguments])
    called = " ".join([*path, *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), f"{called}: {result.exception!r}"
    assert "Traceback" not in result.output, called
    if result.exit_code:
        assert result.exit_code in {1, 2}, called
        assert (result.stderr or result.stdout).strip(), f"{called}: not a word"
        assert len(result.stderr.strip().splitlines()) <= MOST_LINES, f"{called}: {result.stderr}"
    return result


@every_verb
def test_wrong_arguments(path: tuple[str, ...], command: Any, place: Path) -> None:
    words = ["nonsense", "", "../x", str(place / "folder"), str(place / "binary.bin"), "a@b", "[*"]
    for word in words if parameters(command, "argument") else words[:1]:
        result = refused(path, given(command, word, str(place / "out.yaml")))
        if word == "nonsense" and any(p.required for p in parameters(command, "argument")):
            assert result.exit_code, f"{' '.join(path)} {word}"


@every_verb
def test_wrong_options(path: tuple[str, ...], command: Any, place: Path) -> None:
    words = ["nonsense", "", str(place / "folder" / "none"), "-1", "rl.beta=[a", "rl=1"]
    for option in parameters(command, "option"):
        for word in words if not option.is_flag and option.opts[0] != "--help" else ():
            refused(path, [*given(command, "nothing", str(place / "out.yaml")), option.opts[0], word])


@every_verb
def test_wrong_surroundings(
    path: tuple[str, ...], command: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("CAI_RL__BETA", "[a"), ("CAI_NO_SUCH", "1"), ("CAI_SETTINGS", place / "binary.bin"),
                        ("CAI_SETTINGS", place / "folder"), ("CAI_DATA_ROOT", place / "binary.bin"),
                        ("CAI_CONSTITUTIONS", place / "binary.bin")):
        with monkeypatch.context() as patch:
            patch.setenv(name, str(value))
            refused(path, given(command, "nothing", str(place / "out.yaml")))


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["settings", "-s", "prompts.paths=[a"], 2, "--set prompts.paths: '[a' is no YAML value"),
    (["settings", "-s", "rl=1", "-s", "rl.beta=2"], 2, "set the group or its settings, not both"),
    (["materialize", "mild", "--select", "critque"], 2, "--select critque: no such asset; did you mean critiques?"),
    (["materialize", "mild", "--select", "*"], 2, "the assets are prompts, "),
    (["plan", "mild", "-s", "prompts.paths=[nope.jsonl]"], 2, "nope.jsonl"),
    (["plan", "mild", "-s", "prompts.paths=[folder]"], 2, "folder"),
    (["plan", "mild", "-s", "prompts.paths=[binary.bin]"], 2, "binary.bin"),
    (["demo", "--constitution", "none"], 2, "none.yaml:1:1: cannot be read: No such file or directory"),
    (["agreement", "mild"], 2, "no principle has a 'preference' request"),
    (["lint", "folder"], 2, "no constitution files"),
    (["suites", "-s", "evaluation.suites_folder=none"], 2, "evaluation.suites_folder: no folder"),
    (["suites", "--check"], 2, "nothing to check: no folder"),
])
def test_what_is_said(arguments: list[str], code: int, words: str, place: Path) -> None:
    result = refused((), arguments)
    assert result.exit_code == code, result.output
    assert words in " ".join(result.stderr.split())
