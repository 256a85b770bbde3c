"""The tests of a constitution as an asset: what its author expects of each principle, compared with what happens."""

from typing import Any

import dagster as dg
import polars as pl

from cai_assets.constitution.cases import CasesError
from cai_assets.defs.declared import asset
from cai_assets.defs.records import store_table
from cai_assets.defs.run import Run
from cai_assets.evals.constitution_tests import ROWS
from cai_assets.pipeline import evaluation
from cai_assets.pipeline.constitution_tests import POLICY, Tests, tests_of, tests_path
from cai_assets.pipeline.project import Project
from cai_assets.reports.constitution_tests import acted, markdown, numbers, verdict
from cai_assets.store.checkpoints import Checkpoint


@asset("constitution_tests")
def constitution_tests(run: Run) -> dg.MaterializeResult[None]:
    """The cases in `constitutions/NAME.tests.yaml`: do the principles and the policy act as intended?

    Needs no training: materialize it right after the constitution to test each principle's own revisions and labels.
    Once there is an RL policy, automation reruns it and also tests the policy's own answers. It reads the current
    file; without one, the table is empty and the check `cases_pass` says so.
    """
    run.note("constitution")
    tests = read_tests(run.project, run.partition)
    if tests is None:
        name = tests_path(run.project, run.partition).name
        return store_table(run, "constitution_tests", pl.DataFrame(schema=ROWS), settings=(), details={"tests": None},
                           metadata={"tests": f"{name} does not exist", **numbers(pl.DataFrame(schema=ROWS))})
    rows = evaluation.constitution_tests(run, tests).rows
    policy = run.checkpoint(POLICY) if run.is_made(POLICY) else None
    return store_table(run, "constitution_tests", rows,
                       details={"tests": tests.as_dict(), "policy": policy.key if policy else None},
                       metadata=test_metadata(rows, tests, policy))


def read_tests(project: Project, version: str) -> Tests | None:
    """The version's tests; a clear failure for a file that cannot be used."""
    try:
        return tests_of(project, version)
    except CasesError as e:
        raise dg.Failure(f"{e}\nFix it (cai lint) and materialize again.", allow_retries=False) from None


def test_metadata(rows: pl.DataFrame, tests: Tests, policy: Checkpoint | None) -> dict[str, Any]:
    """The verdict and every condition as text, and each count under its own name, so that it plots."""
    return {
        "verdict": verdict(rows, tests.as_dict())[1], "results": dg.MetadataValue.md(markdown(rows)),
        "principles_at_work": dg.MetadataValue.md("\n".join(f"- {line}" for line in acted(rows)) or "none revised"),
        "tests": tests.path.name, "policy": "tested too" if policy else "not trained yet",
        "untested_principles": len(tests.untested), "cases_left_out": len(tests.left_out), **numbers(rows),
    }


assets = [constitution_tests]
