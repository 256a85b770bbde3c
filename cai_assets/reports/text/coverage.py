"""The coverage of a parent constitution, for the terminal and for a card."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cai_assets.constitution.coverage import BREAKS, Coverage, coverage
from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.model import Constitution
from cai_assets.reports.escape import inline, visible
from cai_assets.reports.text.tables import table
from cai_assets.reports.text.terminal import terminal_table

COVERAGE = "Coverage of its parent: "


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


def coverage_line(own: Constitution, parent: Constitution | None) -> str:
    """One line of Markdown: how far a constitution covers the document that it derives from; '' if it names none.
    ``parent``: that document, where it is on file."""
    if parent:
        return (f"{COVERAGE}{inline(str(coverage(parent, own)))}. Each sentence: `cai coverage {parent.name} "
                f"{partition_key(own)}`")
    based = sum(bool(clause.basis) for clause in own.clauses)
    if not based:
        return ""
    where = "that is not on file" if own.parent else "that the constitution does not name (`parent`)"
    document = f"a parent, {inline(own.parent)}," if own.parent else "a parent"
    return f"{COVERAGE}not known: {based} clauses rest on {document} {where}."


def coverage_markdown(found: Coverage) -> str:
    """The counts, and a table of what is not as in the parent."""
    rows = [(f.kind, f.clause, f.message) for f in found.findings]
    return f"{COVERAGE}{found}." + (f"\n\n{table(('what', 'clause', 'how'), rows)}" if rows else "")
