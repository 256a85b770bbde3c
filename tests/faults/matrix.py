"""The fault matrix: tests marked ``fault("...")`` are counted by what they inject, and a table says what held.

One test is one try, unless it says how many it made (``tried`` in its recorded properties).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

FAULT, TRIED = "fault", "tried"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Put the fault's name where it reaches the report, also from another process."""
    if mark := item.get_closest_marker(FAULT):
        item.user_properties.append((FAULT, mark.args[0]))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table, if any fault was tried."""
    tried, held, skipped = Counter[str](), Counter[str](), Counter[str]()
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            told = dict(getattr(report, "user_properties", ()))
            if FAULT not in told or (report.when != "call" and outcome not in ("error", "skipped")):
                continue
            count = int(told.get(TRIED, 1))
            (skipped if outcome == "skipped" else tried)[told[FAULT]] += count
            held[told[FAULT]] += count if outcome == "passed" else 0
    for line in _table(tried, held, skipped):
        terminalreporter.write_line(line)


def _table(tried: Counter[str], held: Counter[str], skipped: Counter[str]) -> list[str]:
    if not tried and not skipped:
        return []
    rows = [f"{name:<72}{tried[name]:>7}{held[name]:>7}{skipped[name] or '':>12}"
            for name in sorted({*tried, *skipped})]
    head = f"{'fault':<72}{'tried':>7}{'held':>7}{'not tried':>12}"
    return ["", head, "-" * len(head), *rows, f"{'sum':<72}{tried.total():>7}{held.total():>7}"]
