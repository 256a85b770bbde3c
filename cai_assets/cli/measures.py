"""``cai agreement`` and ``cai rank``: a labeler against people, and policies against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.markup import escape
from rich.table import Table

from cai_assets.cli.common import (
    Scale,
    Set,
    app,
    err,
    find_constitution,
    open_project,
    out,
    parse_overrides,
    read_settings,
    stop,
)
from cai_assets.reports.text.terminal import terminal_table

if TYPE_CHECKING:
    from cai_assets.constitution.model import Constitution
    from cai_assets.evals.agreement import Agreement
    from cai_assets.evals.ranking import Ranking
    from cai_assets.evals.statistics import Estimate, Telling
    from cai_assets.pipeline.project import Project
    from cai_assets.reports.agreement import About

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.command()
def agreement(
    name: Annotated[str, typer.Argument(
        help="A constitution's name or a registered version: its principles ask the labeler")] = "harmlessness",
    labeller: Annotated[str | None, typer.Option(help="A model: folder or Hub ID; default: models.labeller")] = None,
    file: Annotated[Path | None, typer.Option(help="Human comparisons; default: the bundled sample")] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Maximum number of pairs")] = 200,
    out_: Annotated[Path | None, typer.Option("--out", help="File for the page; default: under the data root")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON; write the page only with --out")] = False,
    scale: Scale = None, set_: Set = None,
) -> None:
    """Do AI labels agree with people? Accuracy, kappa, swap consistency, calibration, and a page with the diagram.

    Asks the labeler exactly as for labels. Trains nothing; pairs that were asked before are reused.
    """
    from cai_assets.reports.agreement import About, as_dict

    overrides = parse_overrides(scale, [*(set_ or []), f"gate.pairs={pairs}"])
    if file:
        overrides.setdefault("gate", {})["path"] = str(file.resolve())
    if labeller:
        overrides.setdefault("models", {})["labeller"] = labeller
    project = open_project(read_settings(overrides))
    try:
        about = About(project.settings.models.role("labeller").source, name, str(file or "the bundled comparisons"),
                      _command(name, labeller, file, pairs, scale, set_))
        measured = _measure(project, find_constitution(project.settings, name))
    finally:
        project.close()
    path = _save(project, measured, about, out_) if out_ or not json_ else None
    if json_:
        typer.echo(json.dumps(as_dict(measured, about), indent=1, ensure_ascii=False))
    else:
        _show_agreement(measured, about)
        out.print(f"Written to {path}", soft_wrap=True, highlight=False, markup=False)


def _measure(project: Project, constitution: Constitution) -> Agreement:
    from cai_assets.evals.agreement import agreement as take_apart
    from cai_assets.evals.gate import measure_labeller, nothing_read
    from cai_assets.steps.complete import Completer

    settings = project.settings
    complete = Completer(project.engines.open(settings.models.role("labeller")), project.store, seed=settings.seed,
                         log=lambda line: err.print(line, style="dim", markup=False, highlight=False))
    result, labeled = measure_labeller(settings, constitution, complete=complete)
    if not result.n:
        stop(f"nothing to compare with: {nothing_read(result)}", code=1)
    return take_apart(result, labeled, confidence=settings.evaluation.confidence)


def _command(name: str, labeller: str | None, file: Path | None, pairs: int, scale: str | None,
             set_: list[str] | None) -> str:
    import shlex

    options = {"--labeller": labeller, "--file": file, "--pairs": pairs, "--scale": scale}
    words = ["cai", "agreement", name, *(str(x) for flag, value in options.items() if value is not None
                                         for x in (flag, value)), *(x for s in set_ or [] for x in ("--set", s))]
    return shlex.join(words)


def _save(project: Project, agreement: Agreement, about: About, path: Path | None) -> Path:
    from cai_assets.reports.agreement import render
    from cai_assets.store.canonical import tagged_hash
    from cai_assets.store.layout import safe_name
    from cai_assets.store.pages import write_page

    stamp = tagged_hash("agreement", [about.labeller, about.file])[-8:]
    path = path or project.layout.file("reports", "agreement", safe_name(f"{about.constitution}-{stamp}.html"))
    write_page(project.layout, path, render(agreement, about))
    return path


def _show_agreement(agreement: Agreement, about: About) -> None:
    from cai_assets.reports.agreement import measures, sentences

    table = _table(f"{about.labeller} against people, {agreement.result.n} pairs", ("measure", "value", "interval",
                                                                                    "pairs"))
    for measure, e in measures(agreement):
        table.add_row(escape(measure), *_cells(e), str(e.n))
    out.print(table)
    bins = _table("confidence and accuracy", ("confidence", "pairs", "mean confidence", "accuracy"))
    for b in agreement.result.reliability:
        bins.add_row(f"{b.low:.1f} to {b.high:.1f}", str(b.n), _number(b.confidence), _number(b.accuracy))
    out.print(bins)
    for sentence in sentences(agreement, about):
        out.print(sentence, markup=False, highlight=False)


@app.command(name="rank")
def rank_policies(
    versions: Annotated[list[str], typer.Argument(help="Evaluated versions, rounds, or record IDs")],
    question: Annotated[str | None, typer.Option(help="harmlessness or helpfulness; default: both")] = None,
    json_: AsJson = False, set_: Set = None,
) -> None:
    """Rank the policies of several versions on one scale (Bradley-Terry), from their stored comparisons.

    Runs no model. Only prompts with the same base responses in every version count.
    """
    from cai_assets.evals.judge import Question
    from cai_assets.evals.statistics import Telling
    from cai_assets.reports.ranking import NothingGraded, as_dict, ranking

    questions: tuple[Question, ...] = get_args(Question)
    wanted = [q for q in questions if question in (None, q)]
    if not wanted:
        stop(f"--question {question}: use one of {', '.join(questions)}")
    project = open_project(read_settings(parse_overrides(None, set_)))
    telling, rankings = project.settings.evaluation, {}
    for q in wanted:
        try:
            rankings[q] = ranking(project.layout, versions, q, confidence=telling.confidence, enough=telling.enough)
        except NothingGraded as e:
            if q == wanted[-1] and not rankings:
                raise
            err.print(str(e), style="dim", markup=False, highlight=False)
    if json_:
        typer.echo(json.dumps({q: as_dict(r) for q, r in rankings.items()}, indent=1, ensure_ascii=False))
        return
    for q, r in rankings.items():
        _show_ranking(q, r, Telling.by(telling))


def _show_ranking(question: str, ranking: Ranking, telling: Telling) -> None:
    from cai_assets.reports.ranking import beside

    table = _table(f"{question}: {ranking.comparisons} comparisons on {ranking.prompts} prompts",
                   ("policy", "strength", "interval", f"wins over {ranking.reference}", "comparisons", "prompts",
                    "verdict"))
    for s in ranking.standings:
        wins = _number(None if s.policy == ranking.reference else s.wins.value)
        why = "; ".join(filter(None, (s.why, beside(s, telling))))
        table.add_row(s.policy, *_cells(s.strength), wins, str(s.comparisons), str(s.strength.n),
                      escape(": ".join(filter(None, (s.verdict, why)))))
    out.print(table)


def _table(title: str, columns: tuple[str, ...]) -> Table:
    return terminal_table(*columns, title=title, right={"pairs", "prompts", "comparisons"})


def _cells(e: Estimate) -> tuple[str, str]:
    return _number(e.value), "–" if e.low is None or e.high is None else f"{e.low:.3f} to {e.high:.3f}"


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}"
