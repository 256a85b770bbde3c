"""The terminal reviewer of ``cai red-team review``: one prompt at a time, each decision saved before the next.

Texts are the model's and the attackers': control characters are shown escaped, so that none can move the cursor.
"""

from __future__ import annotations

from pathlib import Path

import click
from rich.panel import Panel
from rich.text import Text

from cai_assets.cli.common import out
from cai_assets.evals.red_team import Break
from cai_assets.evals.review_file import read_review, write_review
from cai_assets.reading.faults import printable

KEYS = {"k": "keep", "d": "drop", "e": "edit", "n": "note", "s": "skip", "b": "back", "q": "quit"}


def review_all(file: Path) -> int:
    """Ask about every undecided row; return how many remain. Raise ReviewError."""
    rows = read_review(file)
    at = _next(rows, -1)
    while at is not None:
        show(rows[at], at, rows)
        key = _ask()
        if key == "q":
            break
        if key == "b":
            at = max(0, at - 1)
        elif key == "s":
            at = _next(rows, at)
        else:
            rows[at] = decide(rows[at], key)
            write_review(file, rows)
            at = at if key in "en" else _next(rows, at)
    return sum(row.keep is None for row in rows)


def decide(row: Break, key: str) -> Break:
    """The row after one key. An edited prompt still wants a decision."""
    if key == "e":
        text = click.edit(row.prompt, extension=".txt", require_save=False)
        return row._replace(prompt=text.rstrip("\n")) if text and text.strip() else row
    if key == "n":
        return row._replace(note=click.prompt("note", default=row.note, show_default=False))
    return row._replace(keep=key == "k")


def show(row: Break, at: int, rows: list[Break]) -> None:
    """One row on the terminal."""
    left = sum(r.keep is None for r in rows)
    decided = {None: "", True: " · kept", False: " · dropped"}[row.keep]
    out.print(Text(f"\n{at + 1} of {len(rows)} · {left} to decide{decided}", style="bold"))
    for turn in row.context:
        out.print(Text(f"{turn['role']}: {_shown(turn['content'])}", style="dim"))
    out.print(Panel(Text(_shown(row.prompt)), title=f"prompt · {row.kind}", title_align="left"))
    out.print(Panel(Text(_shown(row.response)), title="answer", title_align="left", style="dim"))
    o = row.origin
    mode = f" ({o.mode})" if o.mode else ""
    out.print(Text(f"{_shown(row.category)} · {o.policy}@{o.version} · {o.suite}{mode} · {o.case}", style="dim"))
    out.print(Text(_shown(row.why) + (f"\nnote: {_shown(row.note)}" if row.note else "")))


def _ask() -> str:
    choices = ", ".join(f"{key}={name}" for key, name in KEYS.items())
    said: str = click.prompt(choices, type=click.Choice(list(KEYS), case_sensitive=False), show_choices=False)
    return said.lower()


def _next(rows: list[Break], at: int) -> int | None:
    """The next row without a decision, round the end; None if there is none but this one."""
    after = [*range(at + 1, len(rows)), *range(at)]
    return next((i for i in after if rows[i].keep is None), None)


def _shown(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())
