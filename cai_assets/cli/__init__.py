"""The command line: ``cai COMMAND``. Every command says what to do next."""

# Help lists commands in the order in which their modules are imported.
# isort: off
from cai_assets.cli import run, versions, lint, test, planning, lineage, report, compare, feedback, sweep, attribute
from cai_assets.cli import redteam, inspect_suites, store, export
from cai_assets.cli.common import app

__all__ = ["app", "attribute", "compare", "export", "feedback", "inspect_suites", "lineage", "lint", "planning",
           "redteam", "report", "run", "store", "sweep", "test", "versions"]
