"""The plan of a version's constitution tests: the cases are run with completers that only look keys up."""

from __future__ import annotations

from collections import Counter

import polars as pl

from cai_assets.evals.constitution_tests import Tested
from cai_assets.pipeline import evaluation
from cai_assets.pipeline.constitution_tests import POLICY, tests_of
from cai_assets.pipeline.context import as_policy
from cai_assets.plan.dry import PLANNED, DryCompleter
from cai_assets.plan.lines import Lines, planned
from cai_assets.steps.thought import THOUGHT

ASSET = "constitution_tests"


def plan_tests(plan: Lines) -> None:
    """Add the line. Raise CasesError for a file that cannot be used."""
    tests = tests_of(plan.project, plan.version)
    if tests is None:
        plan.line(ASSET, 0, 0, 0, causes={})
        return
    stage = plan.stage()
    found = evaluation.constitution_tests(stage, tests, graded=False)
    untrained = stage.asked.pop(as_policy(POLICY)).missing if plan.is_new(POLICY) else {}
    dries = list(stage.asked.values())
    certain = len({key for d in dries for key in d.missing})
    possible = certain + len(untrained) + _waiting(plan, found, dries)
    new = {f"{POLICY} is new": len(untrained)} if untrained else {}
    plan.line(ASSET, sum(d.reused for d in dries), certain, possible,
              causes=plan.with_changes(ASSET, possible, new, _by_principle(found.rows)))


def _waiting(plan: Lines, found: Tested, dries: list[DryCompleter]) -> int:
    """Calls that wait for a text which does not exist yet: those without a key."""
    asked = plan.settings.critique
    critiques = planned(found.critiques).filter(row_key="")
    verdicts = 0 if asked.stop_above is None else critiques["row_key_verdict"].null_count()
    revisions = planned(found.revisions).filter(row_key="").height
    judged = _planned_rows(found.rows).filter(pl.col("rule") == "judge", pl.col("response").is_null()).height
    thoughts = sum(step == THOUGHT.name for d in dries for step in d.missing.values())  # an answer follows each
    return (critiques.height if asked.mode == "critique" else 0) + verdicts + revisions + 2 * judged + thoughts


def _planned_rows(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("why").str.contains(PLANNED, literal=True))


def _by_principle(rows: pl.DataFrame) -> dict[str, int]:
    """Conditions that wait for a call, by the principle whose case they are of."""
    counts = Counter(_planned_rows(rows)["principle"])
    return {f"tests of principle {i}": n for i, n in sorted(counts.items())}
