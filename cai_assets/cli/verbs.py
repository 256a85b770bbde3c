"""Every verb of ``cai``: its group, and where its code is. A verb's module is imported when the verb is called.

So ``cai --help`` and completion load none of them. What they say of a verb is the docstring of its function, read from
the source; of verbs with verbs of their own, the docstring of their module.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

import typer.main
from typer.core import TyperCommand, TyperGroup

GROUPS = {
    "Make": {
        "init": "project.init", "demo": "run.demo", "materialize": "run.materialize", "ui": "ui.ui",
        "status": "status.status", "settings": "settings.settings", "upgrade": "project.upgrade",
        "join": "join.join",
    },
    "Write a constitution": {
        "lint": "lint.lint", "test": "test.run_tests", "stress": "stress.stress", "import": "importing.import_",
        "coverage": "coverage.coverage",
        "register": "versions.register", "diff": "versions.diff", "plan": "planning.plan",
        "round": "versions.next_round", "archive": "versions.archive", "restore": "versions.restore",
    },
    "Is it better, and which principle did it": {
        "report": "report.report", "compare": "compare.compare", "ask": "ask.ask", "rescore": "rescore.rescore",
        "rank": "measures.rank_policies", "attribute": "attribute.attribute", "sweep": "sweep", "why": "planning.why",
    },
    "Where does it come from": {"trace": "lineage.trace", "impact": "impact.impact", "verify": "lineage.verify"},
    "Can the labeler and the measures be trusted": {
        "agreement": "measures.agreement", "feedback": "feedback.feedback", "refusals": "refusals.refusals",
    },
    "Data, suites, models": {
        "suites": "suites.suites", "inspect": "inspect_suites.inspect_", "red-team": "redteam", "model": "model",
        "store": "store", "export": "export",
    },
}
"""By heading of the help: each verb, and its module and function, or the module of its verbs."""

WHERE = {verb: where for verbs in GROUPS.values() for verb, where in verbs.items()}


class Verbs(TyperGroup):
    """All verbs: those whose module is not imported yet by what the help says of them."""

    def __init__(self, *, commands: Any = None, **options: Any) -> None:
        super().__init__(commands={**{verb: TyperCommand(verb) for verb in WHERE}, **(commands or {})}, **options)
        for group, verbs in GROUPS.items():
            for verb in verbs:
                command: Any = self.commands[verb]
                command.rich_help_panel = group

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # of Click, or of the copy of it in newer Typers
        """A verb as help and completion list it."""
        command = super().get_command(ctx, cmd_name)
        if command and command.help is None:
            command.help = _docstring(cmd_name)
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The verb that is called, with its options."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, loaded(name).commands[name] if name else command, rest


def loaded(*verbs: str) -> TyperGroup:
    """All commands, and in full those that are named; without a name, all of them in full."""
    from cai_assets.cli.common import app

    for verb in verbs or WHERE:
        import_module(f"cai_assets.cli.{_module(verb)}")
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)  # noqa: S101 - it has a callback
    return group


def _module(verb: str) -> str:
    return WHERE[verb].partition(".")[0]


def _docstring(verb: str) -> str:
    tree = ast.parse((Path(__file__).parent / f"{_module(verb)}.py").read_text(encoding="utf-8"))
    function = WHERE[verb].partition(".")[2]
    told = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function), tree)
    return ast.get_docstring(told) or ""
