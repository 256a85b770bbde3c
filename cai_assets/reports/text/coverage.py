"""The coverage of a parent constitution, for the terminal and for a card."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cai_assets.constitution.coverage import BREAKS, Coverage
from cai_assets.reports.escape import visible
from cai_assets.reports.text.tables import table
from cai_assets.reports.text.terminal import terminal_table


def sentence_table(found: Coverage) -> Table:
    """Every sentence of the parent, and the clauses that carry it."""
    title = f"{found.parent} in {found.child}"
    shown = terminal_table("clause", "sentence", "state", "in", title=title, whole={"state"})
    for s in found.sentences:
        style = "red" if s.state == "missing" else "dim" if s.state == "deferred" else ""
        shown.add_row(Text(s.clause), Text(visible(s.text)), Text(s.state, style=style), Text(", ".join(s.clauses)))
    return shown


def told(found: Coverage) -> RenderableType:
    """The counts, and a line for each finding."""
    lines = [Text(f"{f.kind}: {f.clause}: {visible(f.message)}", style="red" if f.kind in BREAKS else "")
             for f in found.findings]
    return Group(*lines, Text(str(found)))


def coverage_markdown(found: Coverage) -> str:
    """The counts, and a table of what is not as in the parent."""
    rows = [(f.kind, f.clause, f.message) for f in found.findings]
    return f"Coverage of its parent: {found}." + (f"\n\n{table(('what', 'clause', 'how'), rows)}" if rows else "")
