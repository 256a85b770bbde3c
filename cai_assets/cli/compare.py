"""``cai compare``: two constitution versions side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cai_assets.cli import complete
from cai_assets.cli.common import app, open_project, out, read_settings, resolve_version
from cai_assets.reports.text.terminal import terminal_table

if TYPE_CHECKING:
    import polars as pl

    from cai_assets.evals.statistics import Telling
    from cai_assets.reports.compare.gather import Comparison


@app.command()
def compare(
    before: Annotated[str, typer.Argument(help="A materialized version, a constitution's name (its current file), or a "
                                               "record ID: evaluation/VERSION/000001",
                                          autocompletion=complete.versions)],
    after: Annotated[str, typer.Argument(help="Another version, name or record ID", autocompletion=complete.versions)],
    out_: Annotated[Path | None, typer.Option("--out", help="File for the page; default: under the data root")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON; write the page only with --out")] = False,
    label: Annotated[bool, typer.Option("--label", help="Label the pairs of BEFORE by the constitution of AFTER, too: "
                                        "the principles that changed are asked")] = False,
    control: Annotated[str | None, typer.Option(help="A version that asks for nothing in particular, or such a "
                                                "constitution's name (neutral): the effect beyond that of any "
                                                "constitution", autocompletion=complete.versions)] = None,
) -> None:
    """What changed between two versions, in rows, labels, rewards, and metrics, and whether the result is better.

    Writes one self-contained HTML page. Runs no model, but with --label the labeler: which labels an edit flips can be
    told on the same pairs alone.
    """
    from cai_assets.reports.compare.gather import as_dict, with_control
    from cai_assets.reports.compare.gather import compare as find
    from cai_assets.reports.compare.page import save

    settings = read_settings({})
    project = open_project(settings)
    layout = project.layout
    found = find(layout, resolve_version(settings, before), resolve_version(settings, after))
    comparison, note = _relabeled(project, with_control(found, layout, control) if control else found, ask=label)
    path = save(layout, comparison, out_) if out_ or not json_ else None
    if json_:
        typer.echo(json.dumps(as_dict(comparison), indent=1, ensure_ascii=False))
        return
    _show(comparison)
    if note:
        out.print(note, soft_wrap=True, highlight=False, markup=False)
    out.print(f"Written to {path}", soft_wrap=True, highlight=False, markup=False)


def _relabeled(project: Any, found: Comparison, *, ask: bool) -> tuple[Comparison, str]:
    """With the flips on the same pairs, if they are asked for or cost nothing; and what is to be said of it."""
    from cai_assets.engines.models import ModelError
    from cai_assets.reports.compare.gather import with_relabeled
    from cai_assets.reports.compare.relabel import relabeling

    try:
        wanted = relabeling(project, found.before, found.after)
    except ModelError as e:
        if ask:
            raise
        return found, f"Which labels the edit flips on the same pairs is not known: {e}"
    if wanted is None:
        return found, f"{found.before.name} has no labeled pairs to label again." if ask else ""
    if wanted.why_not:
        return found, f"Which labels the edit flips on the same pairs cannot be told: {wanted.why_not}."
    if wanted.missing and not ask:
        names = f"{found.before.name} {found.after.name}"
        return found, (f"To tell which labels the edit flips on the same pairs takes {wanted.missing} "
                       f"calls to the labeler: cai compare {names} --label")
    labeled = wanted.label()
    project.engines.close()
    return with_relabeled(found, labeled), ""


def _show(comparison: Comparison) -> None:
    from cai_assets.reports.compare.words import sentences

    for sentence in sentences(comparison):
        out.print(sentence, markup=False, highlight=False)
    if comparison.metrics is not None:
        _table(comparison.metrics, comparison.telling, "after minus before, on the same prompts", "change")
    if comparison.control and comparison.control.metrics is not None:
        _table(comparison.control.metrics, comparison.telling, "(after minus before) minus (control minus before)",
               "beyond the control")


def _table(metrics: pl.DataFrame, telling: Telling, title: str, change: str) -> None:
    from cai_assets.reports.compare.metrics import label_of
    from cai_assets.reports.compare.words import NAMES, POLICIES, said
    from cai_assets.reports.text.numbers import change_of, interval

    table = terminal_table("policy", "metric", change, "n", "verdict", right={"n"}, title=title)
    for r in metrics.filter(metrics["policy"].is_in(POLICIES)).to_dicts():
        table.add_row(NAMES[r["policy"]], label_of(r), interval(change_of(r)), str(r["n"]), said(r, telling))
    out.print(table)
