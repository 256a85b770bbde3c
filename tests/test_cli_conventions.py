"""What every command line has: a version, short help, groups, completion, JSON for scripts, one line for Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from project_folder import project_of
from typer.testing import CliRunner

from cai_assets import __version__
from cai_assets.cli import GROUPS, app, complete
from cai_assets.cli.common import INTERRUPTED
from cai_assets.cli.verbs import loaded
from cai_assets.store import upkeep

LONG = "a-constitution-with-a-name-as-long-as-a-name-may-be-in-a-file-x"
CONSTITUTION = 'version: "v1"\nprinciples:\n  - {id: harm, critique: Find harm., revision: Remove harm.}\n'
WITHOUT_JSON = {  # they print no table
    "init", "upgrade", "ui", "round", "archive", "restore", "import", "join", "red-team review", "red-team accept",
    "store compact", "store copy", "export constitution", "export dataset", "export lineage", "export model",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = project_of(CONSTITUTION, tmp_path, monkeypatch)
    (folder / "constitutions" / "mild.yaml").rename(folder / "constitutions" / f"{LONG}.yaml")
    return folder


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    inside = getattr(command, "commands", None)
    if inside is None:
        yield " ".join(path), command
    for name, one in (inside or {}).items():
        yield from verbs(one, (*path, name))


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_version_help_and_no_argument() -> None:
    assert run("--version") == f"cai-assets {__version__}\n"
    assert "Usage:" in run()
    for name in ("materialize", "store", "red-team"):
        assert "Usage:" in run(name, "-h")


def test_every_verb_is_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(loaded().commands)
    text = run("-h")
    assert all(group in text for group in GROUPS)


def test_every_verb_that_prints_a_table_prints_json() -> None:
    without = {path for path, command in verbs(loaded())
               if not any("--json" in p.opts for p in command.params)}
    assert without == WITHOUT_JSON


def test_versions_constitutions_and_assets_are_completed(project: Path) -> None:
    assert complete.assets("crit") == ["critiques"]
    assert complete.versions("a-") == [LONG]
    run("register")
    (version,) = (p.stem for p in (project / "data" / "constitutions").glob("*.json"))
    assert complete.versions("a-") == [LONG, version]
    environment = {**os.environ, "_CAI_COMPLETE": "complete_bash", "COMP_WORDS": "cai materialize a-",
                   "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-c", "from cai_assets.cli import app; app(prog_name='cai')"],
                          env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [LONG, version]


def test_status_names_what_is_new_what_is_made_and_what_is_next(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(run("status", "--json"))["not_registered"] == [LONG]
    assert f"Not registered yet: {LONG}" in run("status")
    run("register")
    (first,) = json.loads(run("status", "--json"))["versions"]
    assert (first["made"], first["run"], first["note"]) == (0, None, "current")
    assert f"Next: cai materialize {first['version']}" in run("status")
    assert "the supervised half alone" in run("materialize", LONG, "--select", "constitution")
    (project / "constitutions" / f"{LONG}.yaml").write_text(CONSTITUTION.replace("Find harm", "Find all harm"))
    run("register")
    newest, oldest = json.loads(run("status", "--json"))["versions"]
    assert (newest["note"], oldest["note"], oldest["made"], oldest["run"]["status"]) == ("current", "", 1, "SUCCESS")
    assert [(v["place"]["number"], v["place"]["of"]) for v in (newest, oldest)] == [(2, 2), (1, 2)]
    monkeypatch.delenv("COLUMNS", raising=False)
    assert "2nd of 2" in run("status")
    run("archive", oldest["version"])
    assert len(json.loads(run("status", "--json"))["versions"]) == 1
    assert len(json.loads(run("status", "--json", "--all"))["versions"]) == 2


def test_names_are_whole_through_a_pipe(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    run("register")
    (version,) = (p.stem for p in (project / "data" / "constitutions").glob("*.json"))
    for arguments in (["status"], ["register"], ["lint"], ["archive", version]):
        output = run(*arguments)
        assert any(version in line for line in output.splitlines()), arguments


def test_json_of_what_has_no_model(project: Path) -> None:
    (registered,) = json.loads(run("register", "--json"))["versions"]
    assert registered["new"]
    (linted,) = json.loads(run("lint", "--json"))
    assert (linted["version"], linted["error"]) == (registered["version"], None)
    assert json.loads(run("store", "stats", "--json")) == []
    assert json.loads(run("store", "verify", "--json")) == []
    assert json.loads(run("store", "gc", "--json")) == []
    made = json.loads(CliRunner().invoke(app, ["materialize", LONG, "--select", "constitution", "--json"]).stdout)
    assert [asset["asset"] for asset in made["assets"]] == ["constitution"]
    assert (made["rows_generated"], made["training_runs"], made["report"]) == (0, 0, None)


def test_ctrl_c_is_one_line_and_130(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(upkeep, "stats", interrupt)
    result = CliRunner().invoke(app, ["store", "stats"])
    assert (result.exit_code, result.output.strip()) == (130, INTERRUPTED)


def test_on_a_terminal_a_line_moves_and_what_is_logged_goes_into_the_file(project: Path) -> None:
    here, there = pty.openpty()
    command = [sys.executable, "-m", "cai_assets.cli", "materialize", LONG, "--select", "prompts"]
    process = subprocess.Popen(command, stdin=there, stdout=there, stderr=there)
    os.close(there)
    seen = b""
    with suppress(OSError):  # how a terminal ends that nobody writes to any more
        while part := os.read(here, 4096):
            seen += part
    os.close(here)
    assert process.wait() == 0
    shown = seen.decode()
    assert "✓ prompts" in shown
    assert "\x1b[?25l" in shown, "the cursor is hidden while a line moves"
    assert not re.search(r"\d\d:\d\d:\d\d (all|prompts) ", shown), "a line of the log"
    (log,) = (project / "home" / "output").glob("*.log")
    assert "number format" in log.read_text()


def test_the_block_at_the_end_is_of_this_run_alone(project: Path) -> None:
    everything = run("materialize", LONG, "--select", "prompts", "--select", "initial_responses")
    assert "48 rows generated" in everything
    again = run("materialize", LONG, "--select", "constitution")
    assert "0 rows generated, 0 tokens generated, 0 training runs" in again
    assert "✓ constitution" in again
    assert "initial_responses" not in again
