"""The comparison of two versions as one HTML page, and where it is kept."""

from __future__ import annotations

from pathlib import Path

from cai_assets.pipeline.absent import absent
from cai_assets.reports.compare import sections
from cai_assets.reports.compare.gather import Comparison
from cai_assets.reports.compare.words import sentences
from cai_assets.reports.files import page_file
from cai_assets.reports.html.page import Section, page
from cai_assets.store.layout import Layout
from cai_assets.store.pages import write_page

ABOUT = {"Labels": "preference_pairs", "Revisions": "revisions", "Reward models": "reward_model"}


def render(c: Comparison) -> str:
    """The whole page."""
    blocks_of = {
        "Principles": sections.principles(c), "Answers, side by side": sections.answers(c),
        "Policies on the same prompts": sections.metrics(c),
        **({"Beyond the control": sections.control(c, c.control)} if c.control else {}),
        "Labels": sections.labels(c), "Revisions": sections.revisions(c.revisions),
        "Reward models": sections.rewards(c), "Cost to make": sections.cost(c)}
    gone = absent(c.before.constitution) & absent(c.after.constitution)
    parts = [Section(title, list(blocks)) for title, blocks in blocks_of.items() if ABOUT.get(title) not in gone]
    parts += [Section("Cost by asset", list(sections.cost_by_asset(c)), folded=True),
              Section("How to reproduce", list(sections.reproduce(c)))]
    return page(f"{c.before.name} compared with {c.after.name}", parts, summary=sentences(c),
                footer=f"Based on the records of {'the three' if c.control else 'both'} versions: {c.stamp}")


def save(layout: Layout, c: Comparison, path: Path | None = None) -> Path:
    """Write the page atomically, by default to ``page_path``; return where it is."""
    control = [f"control-{c.control.side.name}"] if c.control else []
    path = path or page_path(layout, c.before.name, c.after.name, *control)
    write_page(layout, path, render(c))
    return path


def page_path(layout: Layout, before: str, after: str, *control: str) -> Path:
    """``reports/compare/<A>-<B>.html`` under the data root."""
    return page_file(layout, "compare", before, after, *control)
