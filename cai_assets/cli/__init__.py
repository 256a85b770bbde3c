"""The command line: ``cai COMMAND``. Every command says what to do next."""

# Help lists commands in the order in which their modules are imported.
# isort: off
from cai_assets.cli import run, versions, test, planning, lineage, compare, feedback, sweep, redteam, store, export
from cai_assets.cli.common import app

__all__ = ["app", "compare", "export", "feedback", "lineage", "planning", "redteam", "run", "store", "sweep",
           "test", "versions"]
