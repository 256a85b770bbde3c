"""``.ci/run`` with a ``make`` that only says what it was asked for: what it tells of the machine, whatever happens."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PARTS = ["install", "lint", "site", "test-logic", "test-model", "test-browser"]


def ran(folder: Path, fails: str) -> subprocess.CompletedProcess[str]:
    make = folder / "make"
    make.write_text(f'#!/bin/sh\necho "made $1"\n[ "$1" != "{fails}" ]\n')
    make.chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run([REPOSITORY / ".ci" / "run"], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("fails", "code", "parts"), [("", 0, 6), ("lint", 1, 2), ("test-logic", 2, 6),
                                                     ("test-browser", 2, 6)])
def test_the_machine_is_told_first_and_last_with_the_seconds_of_each_part(
    tmp_path: Path, fails: str, code: int, parts: int
) -> None:
    done = ran(tmp_path, fails)
    assert done.returncode == code, done.stderr
    first, last = done.stdout.split("made install\n")[0], done.stdout.rpartition("\n\n")[2]
    for told in (first, last):
        for word in ("processor ", "instruction sets ", "number format ", "cores ", "load "):
            assert re.search(f"^{word}", told, re.MULTILINE), word
    lines = re.findall(r"^([a-z-]+) +\d+ s (FAILED)?$", last, re.MULTILINE)
    assert lines == [(part, "FAILED" if part == fails else "") for part in PARTS[:parts]]


def test_it_runs_the_parts_that_make_test_is_made_of() -> None:
    rules = dict(re.findall(r"^([a-z-]+): ([^#\n]*)", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert rules["test"].split() == [part for part in PARTS if part.startswith("test-")]
