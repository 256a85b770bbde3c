"""The report across versions as one HTML page, and where it is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cai_assets.reports.html.page import Answer, Block, Missing, Section, Text, Told, page
from cai_assets.reports.text.numbers import interval
from cai_assets.reports.version.evidence import Evidence
from cai_assets.reports.version.policies import KINDS, basis, between
from cai_assets.reports.versions import sections
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.layout import Layout
from cai_assets.store.pages import write_page

QUALITY, OVER = "Helpfulness and harmlessness", "Over versions"


def render(every: Sequence[Evidence], *, ranked: bool = True) -> str:
    """The whole page. ``every``: oldest first. ``ranked``: with the ranking of all policies, which takes seconds."""
    unranked = [Missing("the policies have not been ranked.", sections.COMMAND)]
    ranking: Iterable[Block] = sections.ranking(every) if ranked else unranked
    blocks_of = {QUALITY: sections.pareto(every), OVER: sections.over_versions(every), "Ranking": ranking,
                 "Principles": sections.principles(every), "Cost": sections.cost(every),
                 "One version": _commands(every)}
    return page("Report across versions", [Section(title, list(blocks)) for title, blocks in blocks_of.items()],
                summary=[f"Evaluated versions: {len(every)}, oldest first."], answers=list(_answers(every)),
                footer=f"Based on the records named on this page: {stamp(every)}")


def stamp(every: Sequence[Evidence]) -> str:
    """Names the records that the page was made from."""
    return tagged_hash("versions", [e.stamp for e in every])


def page_path(layout: Layout) -> Path:
    """``reports/versions.html`` under the data root."""
    return layout.file("reports", "versions.html")


def save(layout: Layout, every: Sequence[Evidence], path: Path | None = None, *, ranked: bool = True) -> Path:
    """Write the page atomically, by default to ``page_path``; return where it is."""
    path = path or page_path(layout)
    write_page(layout, path, render(every, ranked=ranked))
    return path


def _answers(every: Sequence[Evidence]) -> Iterator[Answer]:
    if not every:
        return
    newest = every[-1]
    yield Answer("Which version is newest?", f"{newest.version}, of {newest.side.constitution.name}.", None, OVER)
    same = [e for e in every[:-1] if e.side.constitution.name == newest.side.constitution.name]
    if same:
        yield _better(same[-1], newest)


def _better(before: Evidence, newest: Evidence) -> Answer:
    question = "Is it better than the previous version?"
    if basis(before) != basis(newest):
        return Answer(question, f"It was measured differently from {before.version}, so the two cannot be compared.",
                      Told("not comparable"), QUALITY)
    moved = {q: between(before, newest, q) for q in KINDS}
    moves = "; ".join(f"{q} {interval(d.estimate)} over {d.estimate.n} prompts, {d.told}" for q, d in moved.items())
    return Answer(question, f"From {before.version}, in wins over the base model: {moves}. More: cai compare "
                  f"{before.version} {newest.version}.", moved["harmlessness"].told, QUALITY)


def _commands(every: Sequence[Evidence]) -> Iterator[Text]:
    yield Text("Each version has its own page, with the command and the records behind every figure.")
    yield Text("\n".join(f"cai report {e.version}" for e in every) or sections.COMMAND, code=True)
