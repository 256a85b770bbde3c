"""Writes docs/commands.md from the commands: ``python docs/commands.py``; a test holds that it is current."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from cai_assets.cli.verbs import loaded

PAGE = Path(__file__).parent / "commands.md"
HEAD = """# Commands

`cai COMMAND --help` says the same in the terminal. Written by `docs/commands.py`.
"""


def page() -> str:
    """The whole page."""
    group = loaded()
    return "\n".join([HEAD, *_index(group), "", *(line for part in _parts("cai", group) for line in part)])


def _index(group: TyperGroup) -> Iterator[str]:
    yield "| command | what it does |"
    yield "|---|---|"
    for name, command in _commands("cai", group):
        yield f"| [`{name}`](#{_anchor(name)}) | {_first(command)} |"


def _parts(name: str, group: TyperGroup) -> Iterator[list[str]]:
    for full, command in _commands(name, group):
        lines = [f"## {full}", "", _about(command), "", f"```bash\n{full} {_usage(command)}".rstrip(), "```", ""]
        rows = [row for p in command.params if (row := _parameter(p))]
        if rows:
            lines += ["| | |", "|---|---|", *rows, ""]
        yield lines


def _commands(name: str, group: TyperGroup) -> Iterator[tuple[str, TyperCommand]]:
    """Every command that does something, with its full name, in the order of the help."""
    for own, command in group.commands.items():
        if command.hidden:
            continue
        if isinstance(command, TyperGroup):
            yield from _commands(f"{name} {own}", command)
        elif isinstance(command, TyperCommand):
            yield f"{name} {own}", command


def _usage(command: TyperCommand) -> str:
    arguments = [p for p in command.params if isinstance(p, TyperArgument)]
    return " ".join(_name(p) if p.required else f"[{_name(p)}]" for p in arguments)


def _name(argument: TyperArgument) -> str:
    name = (argument.metavar or argument.name or "").strip("{}").upper()
    return name + ("..." if argument.nargs == -1 else "")


def _parameter(parameter: object) -> str | None:
    if isinstance(parameter, TyperArgument):
        return f"| `{_name(parameter)}` | {_cell(parameter.help)} |"
    if isinstance(parameter, TyperOption) and parameter.name != "help" and not parameter.hidden:
        names = ", ".join(f"`{name}`" for name in parameter.opts)
        default = parameter.default
        shown = "" if callable(default) or default in (None, False, "", ()) else f" (default: `{default}`)"
        return f"| {names} | {_cell(parameter.help)}{shown} |"
    return None


def _about(command: TyperCommand) -> str:
    return inspect.cleandoc(command.help or "").replace("\f", "")


def _first(command: TyperCommand) -> str:
    return _cell(_about(command).split("\n\n")[0])


def _cell(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").replace("|", "\\|")


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
