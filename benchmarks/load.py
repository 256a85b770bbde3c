"""How long the code location takes to load, against an empty one, side by side: ``python benchmarks/load.py [--json]``.

Each is loaded in fresh processes, turn by turn, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

EMPTY = "import dagster as dg; defs = dg.Definitions(); defs.get_repository_def()"
OURS = "from cai_assets.definitions import defs; defs.get_repository_def()"


def seconds(code: str) -> float:
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--smallest", dest="rounds", action="store_const", const=1, help="as the tests run it")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seconds(EMPTY), seconds(OURS)  # compile once
    pairs = [(seconds(EMPTY), seconds(OURS)) for _ in range(arguments.rounds)]
    result = {"empty_seconds": statistics.median(p[0] for p in pairs),
              "ours_seconds": statistics.median(p[1] for p in pairs),
              "ratio": statistics.median(p[1] / p[0] for p in pairs), "rounds": arguments.rounds}
    if arguments.json:
        print(json.dumps(result))
    else:
        print("empty {empty_seconds:.2f} s · ours {ours_seconds:.2f} s · ratio {ratio:.2f} (medians of {rounds} turns)"
              .format(**result))


if __name__ == "__main__":
    main()
