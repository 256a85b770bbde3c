"""What each principle of a version does, as one HTML page, with the same as Markdown beside it, and where they are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cai_assets.evals.attribution import POLICIES
from cai_assets.reports.attribution.gather import Attribution, effect_of
from cai_assets.reports.attribution.words import (
    CAVEAT,
    HEADS,
    POLICY,
    amount,
    by_suite,
    label,
    markdown,
    rows,
    sentences,
    state_of,
    verdict_on,
)
from cai_assets.reports.files import page_file
from cai_assets.reports.html.page import Block, Figure, Section, Table, Text, page
from cai_assets.reports.html.plots import both, intervals
from cai_assets.reports.text.numbers import change_of
from cai_assets.store.layout import Layout
from cai_assets.store.pages import write_page

READING = (
    "Each principle is left out of training only; it still judges if it has an evaluation request. A positive change "
    "means that attacks succeed more often without it: the principle prevents them.",
    "Every number is over the same cases, answered by both versions; each request has the same weight, and intervals "
    "are bootstrapped over requests.",
    "p-values come from a sign-flip test, adjusted for the number of principles (Holm). A difference is called better "
    "or worse only if the interval and the adjusted p-value agree and there are enough requests.",
    CAVEAT + " Rebuilding the whole version with another seed shows how far that alone moves a number.",
    "A chain is affected if one of its steps drew the principle: in theory, 1 - (1 - w)^R for a principle with share w "
    "of the weights and R rounds.",
)


def render(a: Attribution) -> str:
    """The whole page."""
    parts = [Section("Attack success", list(_attacks(a))),
             *(Section(f"All measures, {POLICY[p]}", [_table(a, p)]) for p in POLICIES),
             Section("By suite", list(_suites(a)), folded=True),
             Section("The derived versions", list(_versions(a)), folded=True),
             Section("How to read this", [*(Text(text) for text in READING), Text(
                 f"This page: intervals of {a.confidence:.0%}, and at least {a.enough} requests.")])]
    records = ", ".join(r.ref.id for r in a.records)
    return page(f"What each principle of {a.version} does", parts, summary=sentences(a), footer=f"Based on {records}")


def save(layout: Layout, a: Attribution) -> Path:
    """Write the page, and the Markdown beside it, atomically; return the page's path."""
    path = page_path(layout, a.version)
    write_page(layout, path.with_suffix(".md"), markdown(a))
    write_page(layout, path, render(a))
    return path


def page_path(layout: Layout, version: str) -> Path:
    """``reports/attribution/<version>.html`` under the data root."""
    return page_file(layout, "attribution", version)


def _attacks(a: Attribution) -> Iterator[Block]:
    for policy in POLICIES:
        measured = {label(e): x for e in a.entries if (x := effect_of(a, e, policy)) and x["delta"] is not None
                    and (e.seed == 0 or e.kind == "again")}
        shown = {name: change_of(x) for name, x in measured.items()}
        if shown:
            yield Figure(
                both(partial(intervals, shown, axis="change in attack success", line=0.0)),
                f"Change in attack success of the {POLICY[policy]}", "Further right: attacks succeed more often.",
                f"cai attribute {a.version}", words="; ".join(
                    f"{name} {amount(x)} (n = {x['n']}, {verdict_on(x, a.telling)})" for name, x in measured.items()))
    if a.effects.is_empty():
        yield Text("No derived version has been measured yet. This command shows the cost and asks before it starts:")
        yield Text(f"cai attribute {a.version}", code=True)


def _table(a: Attribution, policy: str) -> Table:
    return Table(f"Each derived version against the whole one: {POLICY[policy]}", HEADS,
                 [cells for _, cells in rows(a, policy)],
                 note="The verdict is about the derived version: 'worse' without a principle means that the principle "
                      "prevents attacks.")


def _suites(a: Attribution) -> Iterator[Block]:
    for policy in POLICIES:
        effects = by_suite(a, policy)
        if effects.height:
            yield Table(
                f"Attack success in each suite: {POLICY[policy]}",
                ("kind", "principle", "suite", "whole version", "derived", "change", "n", "verdict"),
                [(x["kind"], x["principle"] or f"seed +{x['seed']}", x["suite"], x["reference"], x["value"],
                  "–" if x["delta"] is None else amount(x), x["n"], verdict_on(x, a.telling))
                 for x in effects.to_dicts()])


def _versions(a: Attribution) -> Iterator[Block]:
    yield Table("Derived versions", ("version", "partition", "state"),
                [(label(e), e.key or "–", state_of(e)) for e in a.entries])
    yield Text("Measured versions are compared as they are; to materialize the others:")
    yield Text(f"cai attribute {a.version}", code=True)

