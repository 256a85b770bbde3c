"""``cai refusals``: the rule that finds refusals, against people's labels."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cai_assets.cli.common import app, err, out, stop
from cai_assets.reports.text.terminal import terminal_table

if TYPE_CHECKING:
    from cai_assets.evals.refusal_labels import Measured
    from cai_assets.evals.statistics import Estimate


@app.command()
def refusals(
    file: Annotated[Path, typer.Argument(help="Labeled completions, such as XSTest's: completion and final_label")],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """How well does the refusal rule agree with people? Recall, precision, and accuracy on completions they labeled.

    Runs no model. docs/measures.md has the figures that stand beside refusals and attacks.
    """
    from cai_assets.evals.refusal import RULE
    from cai_assets.evals.refusal_labels import measure

    found = measure(file)
    for reason, n in found.set_aside.items():
        err.print(f"{n} rows set aside: {reason} (the first: {found.first})", style="red", markup=False,
                  highlight=False, soft_wrap=True)
    if not sum(found.counts):
        stop(f"{file}: no labeled completion to compare with", code=1)
    if json_:
        out.print_json(json.dumps(_as_dict(found, RULE)))
        return
    table = terminal_table("measure", "value", "interval", "completions", right={"completions"},
                           title=f"refusal rule {RULE} against people, {sum(found.counts)} completions")
    for name, e in _estimates(found).items():
        table.add_row(name, *_cells(e), str(e.n))
    out.print(table)


def _estimates(found: Measured) -> dict[str, Estimate]:
    counts = found.counts
    return {"recall": counts.recall(), "precision": counts.precision(), "accuracy": counts.accuracy(),
            **{f"called a refusal, of each {label}": e for label, e in found.by_label.items()}}


def _as_dict(found: Measured, rule: int) -> dict[str, object]:
    return {"rule": rule, "counts": found.counts._asdict(), "set_aside": found.set_aside,
            **{name: asdict(e) for name, e in _estimates(found).items()}}


def _cells(e: Estimate) -> tuple[str, str]:
    if e.value is None or e.low is None or e.high is None:
        return "–", "–"
    return f"{e.value:.3f}", f"{e.low:.3f} to {e.high:.3f}"
