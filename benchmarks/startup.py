"""How long commands take that have nothing to do: ``python benchmarks/startup.py [--repeat N] [--smallest]``.

Makes one version of ``customer-service`` in an empty root, with the models of the settings, and then runs each command
in processes of its own; ``plan`` and the run find every row and checkpoint; ``nothing`` is the same run after one that
found nothing to do. Baseline: a process that imports dagster and does nothing else. Processor seconds, the least of N,
which other work on the machine disturbs less than wall time.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from cai_assets.cli import app

CONSTITUTIONS = Path(__file__).parents[1] / "constitutions"
NAME = "customer-service"
BASELINE = ("-c", "import dagster")
SMALLEST = {"CAI_PROMPTS": '{"red_team": 4, "helpful": 2, "eval_red_team": 1, "eval_helpful": 1}',
            "CAI_GATE__PAIRS": "1", "CAI_EVALUATION__SUITES": "[]"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="processes of each command")
    parser.add_argument("--smallest", action="store_true", help="a run of few rows, each command once")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"CAI_DATA_ROOT": f"{folder}/data", "DAGSTER_HOME": f"{folder}/home",
                       "CAI_CONSTITUTIONS": str(CONSTITUTIONS), **(SMALLEST if asked.smallest else {})}
        version = make()
        seconds = measure(version, 1 if asked.smallest else asked.repeat)
    of = seconds.pop("import dagster")
    print(f"{of:.2f} s: a process that imports dagster")
    for command, took in seconds.items():
        print(f"{took:.2f} s: {command}")
    print("ratio to importing dagster: " + ", ".join(f"{took / of:.2f} {name}" for name, took in seconds.items()))


def make() -> str:
    """The version, with everything made."""
    app(["materialize", NAME], standalone_mode=False)
    (snapshot,) = (Path(os.environ["CAI_DATA_ROOT"]) / "constitutions").glob("*.json")
    return snapshot.stem


def measure(version: str, repeat: int) -> dict[str, float]:
    """Processor seconds of each command."""
    commands = {"help": ["--help"], "lint": ["lint"], "status": ["status"], "trace": ["trace", f"rl_policy@{version}"],
                "plan": ["plan", NAME], "run": ["materialize", NAME, "--again"], "nothing": ["materialize", NAME]}
    calls = {"import dagster": BASELINE} | {n: ("-m", "cai_assets.cli", *c) for n, c in commands.items()}
    return {name: min(processor_seconds(call) for _ in range(repeat)) for name, call in calls.items()}


def processor_seconds(arguments: tuple[str, ...]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1}:  # 1: lint found something
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
