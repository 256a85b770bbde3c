"""The last block of a run: what it made, the report's headline and path, checks that did not pass, what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from cai_assets.cli.common import err, out

if TYPE_CHECKING:
    from cai_assets.cli.run import Made
    from cai_assets.pipeline.project import Project


def show(project: Project, made: Made) -> None:
    """Print it: what was made on stdout, what is wrong on stderr."""
    total = totals(made)
    if made.unchanged:
        out.print(f"{made.version}: nothing to do. Nothing that it is made from has changed since run "
                  f"{made.run_id[:8]} made it; --again makes tables, checks, and pages anew.", highlight=False,
                  soft_wrap=True)
    out.print(f"\n{total['rows_generated']} rows generated, {total['tokens_generated']} tokens generated, "
              f"{total['training_runs']} training runs in {made.seconds:.0f} s", highlight=False, soft_wrap=True)
    for line in made.lines:
        if line.made != "table":
            out.print(f"{line.asset}: {line.path}", markup=False, highlight=False, soft_wrap=True)
    for question, word, text in made.headline:
        out.print(f"[b]{escape(question)}[/b] {escape(word)}: {escape(text)}", highlight=False, soft_wrap=True)
    if page := report_of(project, made):
        out.print(f"Report: {page}", markup=False, highlight=False, soft_wrap=True)
    _show_checks(made)
    name = project.snapshots.load(made.version).name
    out.print("Next: browse the results with [b]cai ui[/b] (or make ui). Or edit a principle in "
              f"constitutions/{name}.yaml and run [b]cai materialize {name}[/b]: only what the edit affects is "
              "recomputed.", soft_wrap=True)


def _show_checks(made: Made) -> None:
    if made.failed_checks:
        err.print(f"{len(made.failed_checks)} of {made.checks} checks warn:", style="yellow")
    for check in made.failed_checks:
        err.print(f"  {check.asset}: {check.name}: {check.description}", style="yellow", markup=False, highlight=False,
                  soft_wrap=True)


def as_dict(project: Project, made: Made) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "version": made.version, "run_id": made.run_id, "seconds": round(made.seconds, 1), **totals(made),
        "unchanged": made.unchanged,
        "assets": [{**line._asdict(), "told": list(line.told)} for line in made.lines],
        "headline": [{"question": q, "told": word, "text": text} for q, word, text in made.headline],
        "report": str(report_of(project, made) or "") or None, "checks": made.checks,
        "failed_checks": [check._asdict() for check in made.failed_checks],
        "log": str(made.log) if made.log else None,
    }


def totals(made: Made) -> dict[str, int]:
    """Rows and tokens that this run generated, and how often it trained."""
    return {"rows_generated": sum(x.generated for x in made.lines),
            "tokens_generated": sum(x.tokens for x in made.lines),
            "training_runs": sum(x.made == "trained" for x in made.lines)}


def report_of(project: Project, made: Made) -> Path | None:
    """The page that this run wrote."""
    from cai_assets.reports.version.page import page_path

    return page_path(project.layout, made.version) if any(x.asset == "report" for x in made.lines) else None


def headline(project: Project, made: Made) -> Iterator[tuple[str, str, str]]:
    """The report's answers that have a verdict, if this run wrote it."""
    from cai_assets.reports.version.answers import answers
    from cai_assets.reports.version.evidence import evidence_of

    if report_of(project, made) is None:
        return
    settings = project.settings
    evidence = evidence_of(project.layout, made.version, settings.monitors, settings.price_per_gpu_hour)
    yield from ((a.question, a.told.word, a.text) for a in answers(evidence) if a.told is not None)
