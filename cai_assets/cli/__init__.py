"""The command line: ``cai COMMAND``. Every command says what to do next."""

from typing import Any

# Within its group, help lists commands in the order in which their modules are imported.
# isort: off
from cai_assets.cli import run, ui, status, settings, versions, lint, importing, coverage, test, planning
from cai_assets.cli import lineage, impact
from cai_assets.cli import report, compare, rescore, measures
from cai_assets.cli import feedback, sweep, attribute
from cai_assets.cli import suites, refusals, redteam, inspect_suites, model, store, export
from cai_assets.cli.common import app

__all__ = ["app", "attribute", "compare", "coverage", "export", "feedback", "impact", "importing", "inspect_suites",
           "lineage", "lint", "measures", "model", "planning", "redteam", "refusals", "report", "rescore", "run",
           "settings", "status", "store", "suites", "sweep", "test", "ui", "versions"]

GROUPS = {
    "Make": ("demo", "materialize", "ui", "status", "settings"),
    "Write a constitution": ("lint", "test", "import", "coverage", "register", "diff", "plan", "round", "archive",
                             "restore"),
    "Is it better, and which principle did it": ("report", "compare", "rescore", "rank", "attribute", "sweep", "why"),
    "Where does it come from": ("trace", "impact", "verify"),
    "Can the labeler and the measures be trusted": ("agreement", "feedback", "refusals"),
    "Data, suites, models": ("suites", "inspect", "red-team", "model", "store", "export"),
}

_group_of = {name: group for group, names in GROUPS.items() for name in names}
_registered: list[Any] = [*app.registered_commands, *app.registered_groups]
for command in _registered:
    name = command.name or getattr(command.callback, "__name__", "")
    command.rich_help_panel = _group_of.get(str(name))
