"""Run inside a mount namespace of its own: a project whose folder lies on a disk that is too small, or read-only.

``python small_disk.py PROJECT FOLDER SIZE``, or ``ro`` in place of the size. Prints what is wrong, a line each.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "train"), str(HERE.parents[1])]

from commands import CONSTITUTION, FIRST_HALF, ended, told  # noqa: E402

ROOM = "256m"
COMMANDS = (
    ("lint",), ("settings",), ("suites",), ("register",), ("plan", CONSTITUTION),
    ("materialize", CONSTITUTION, *FIRST_HALF), ("verify",),
    ("store", "stats"), ("store", "verify"), ("store", "compact"), ("store", "gc"),
    ("trace", "revisions@VERSION"),
)


def mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True)


def full(project: Path, folder: Path, size: str) -> Iterator[str]:
    """Materialize until the disk is full, then with room."""
    mount("-t", "tmpfs", "-o", f"size={size}", "none", str(folder))
    code, output = ended(project, "materialize", CONSTITUTION, *FIRST_HALF)
    if not told(output):
        yield f"{size}: {output[-600:]}"
    if code == 0:
        yield f"{size} was enough: choose a smaller disk"
    mount("-o", f"remount,size={ROOM}", str(folder))
    for command in (("materialize", CONSTITUTION, *FIRST_HALF), ("verify",)):
        code, output = ended(project, *command)
        if code:
            yield f"{size}, with room again, {command[0]}: {output[-600:]}"


def read_only(project: Path, folder: Path) -> Iterator[str]:
    """Each command on a folder that may only be read."""
    mount("--bind", str(folder), str(folder))
    mount("-o", "remount,bind,ro", str(folder))
    version = next((p.stem for p in (project / "data" / "constitutions").glob("*.json")), "")
    for command in COMMANDS:
        code, output = ended(project, *(part.replace("VERSION", version) for part in command))
        if code not in (0, 1, 2) or not told(output):
            yield f"{' '.join(command[:2])} ended with {code}: {output[-600:]}"


if __name__ == "__main__":
    project, folder, size = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    problems = list(read_only(project, folder) if size == "ro" else full(project, folder, size))
    print("\n".join(problems))
    sys.exit(bool(problems))
