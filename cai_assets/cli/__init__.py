"""The command line: ``cai COMMAND``. Every command says what to do next."""

# Help lists commands in the order in which their modules are imported.
# isort: off
from cai_assets.cli import run, versions, lint, importing, test, planning, lineage, impact, report, compare, measures
from cai_assets.cli import feedback, sweep, attribute
from cai_assets.cli import suites, refusals, redteam, inspect_suites, model, store, export
from cai_assets.cli.common import app

__all__ = ["app", "attribute", "compare", "export", "feedback", "impact", "importing", "inspect_suites", "lineage",
           "lint", "measures", "model", "planning", "redteam", "refusals", "report", "run", "store", "suites", "sweep",
           "test", "versions"]
