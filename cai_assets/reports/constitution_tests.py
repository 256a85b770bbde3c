"""What the tests of a constitution came to: case by case, and in numbers. Nothing ungraded counts as a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import polars as pl

from cai_assets.reports.escape import shorten
from cai_assets.reports.text.tables import table

Outcome = Literal["pass", "fail", "ungraded"]
SIGN: dict[str, str] = {"pass": "✓ pass", "fail": "✗ fail", "ungraded": "? ungraded"}


class CaseResult(NamedTuple):
    """One case. ``outcome``: 'fail' if a condition fails, else 'ungraded' if one is, else 'pass'.

    ``changed``: whether the principle changed the first answer; None where it revised nothing.
    """

    case: str
    principle: str
    outcome: Outcome
    changed: bool | None
    rows: tuple[dict[str, Any], ...]


def case_results(rows: pl.DataFrame) -> list[CaseResult]:
    """Every case in the order of the rows, which are as ``evals/constitution_tests.py`` gives them."""
    cases: dict[str, list[dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        cases.setdefault(row["case"], []).append(row)
    return [CaseResult(case, own[0]["principle"], _worst([r["outcome"] for r in own]),
                       next((r["changed"] for r in own if r["changed"] is not None), None), tuple(own))
            for case, own in cases.items()]


def numbers(rows: pl.DataFrame) -> dict[str, int]:
    """Counts of conditions and of cases by outcome, and of principles that revised an answer and that changed one."""
    results = case_results(rows)
    conditions, cases = Counter(rows["outcome"]), Counter(r.outcome for r in results)
    revised = {r.principle for r in results if r.changed is not None}
    return {
        "conditions": rows.height, "passed": conditions["pass"], "failed": conditions["fail"],
        "ungraded": conditions["ungraded"], "cases": len(results), "cases_passed": cases["pass"],
        "cases_failed": cases["fail"], "cases_ungraded": cases["ungraded"], "principles_revised": len(revised),
        "principles_acted": len({r.principle for r in results if r.changed}),
        "answers_changed": sum(bool(r.changed) for r in results),
    }


def acted(rows: pl.DataFrame) -> list[str]:
    """A line for each principle that revised an answer: in which cases it changed the text, and in which it did not."""
    lines = []
    by_principle: dict[str, list[CaseResult]] = {}
    for result in case_results(rows):
        if result.changed is not None:
            by_principle.setdefault(result.principle, []).append(result)
    for principle, results in by_principle.items():
        did = [r.case for r in results if r.changed]
        left = [r.case for r in results if not r.changed]
        parts = [*(["changed the answer of " + ", ".join(did)] if did else []),
                 *(["left the answer of " + ", ".join(left) + " as it was"] if left else [])]
        lines.append(f"{principle} {' and '.join(parts)}")
    return lines


def verdict(rows: pl.DataFrame, tests: Mapping[str, Any] | None) -> tuple[bool, str]:
    """Whether every case passes, and the reason. ``tests``: as the record of the tests keeps it; None: no file.

    Without a test nothing is known to hold, so that does not pass; neither do cases of which none could be graded.
    """
    if tests is None:
        return False, "this constitution has no tests: add constitutions/NAME.tests.yaml (docs/constitution-tests.md)"
    n = numbers(rows)
    bad = [f"{r.case} ({_failures(r)})" for r in case_results(rows) if r.outcome == "fail"]
    text = f"{n['cases_passed']} of {n['cases']} cases pass, {n['cases_failed']} fail, {n['cases_ungraded']} ungraded"
    more = [*([f"failing: {'; '.join(bad[:5])}"] if bad else []),
            *([f"no test for {_listed(tests['untested'])}"] if tests["untested"] else []),
            *(["excluded because their principles were left out: "
               f"{_listed(tests['left_out'])}"] if tests["left_out"] else [])]
    return not n["failed"] and n["passed"] > 0, "; ".join([text, *more])


def markdown(rows: pl.DataFrame) -> str:
    """Every condition as a table."""
    return table(("case", "principle", "subject", "condition", "outcome", "why"), [
        (r["case"], r["principle"], r["subject"], r["condition"], SIGN[r["outcome"]], r["why"])
        for r in rows.iter_rows(named=True)], cell=240)


def _failures(result: CaseResult) -> str:
    failed = [r for r in result.rows if r["outcome"] == "fail"]
    return ", ".join(f"{r['subject']} {shorten(r['condition'], 60)}" for r in failed)


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _worst(outcomes: Sequence[str]) -> Outcome:
    return "fail" if "fail" in outcomes else "ungraded" if "ungraded" in outcomes else "pass"
