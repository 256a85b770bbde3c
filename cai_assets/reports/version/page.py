"""The report of one version as one HTML page, and where it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cai_assets.reports.compare.sides import older
from cai_assets.reports.files import page_file
from cai_assets.reports.html.page import Section, page
from cai_assets.reports.version import answers as say
from cai_assets.reports.version.costs import cost, model_name, records, reproduce
from cai_assets.reports.version.evidence import Evidence
from cai_assets.reports.version.labels import labels
from cai_assets.reports.version.quality import pareto, principles
from cai_assets.reports.version.rounds import rounds
from cai_assets.reports.version.samples import samples
from cai_assets.reports.version.suites import attribution, suites, tests
from cai_assets.reports.version.training import curves, hacked
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.layout import Layout
from cai_assets.store.pages import write_page
from cai_assets.versions.rounds import round_of


def render(found: Evidence, others: Sequence[Evidence] = ()) -> str:
    """The whole page. ``others``: versions to stand beside it in the picture of policies."""
    made = {
        say.QUALITY: pareto(found, others), say.SUITES: suites(found), say.PRINCIPLES: principles(found),
        say.TESTS: tests(found), say.PREVENTS: attribution(found), say.ROUNDS: rounds(found),
        say.LABELS: labels(found), say.HACKING: hacked(found), "Training": curves(found), "Samples": samples(found),
        say.COST: cost(found), say.AGAIN: reproduce(found)}
    sections = [Section(title, list(blocks)) for title, blocks in made.items()]
    sections.append(Section("Records", list(records(found)), folded=True))
    return page(f"Report of {found.side.name}", sections, summary=list(lead(found)), answers=list(say.answers(found)),
                footer=f"Based on the records named on this page: {stamp(found, others)}")


def lead(found: Evidence) -> Iterator[str]:
    """What this is, who judged, and what else a reader must know."""
    c, number = found.side.constitution, round_of(found.version).number
    yield (f"Constitution {c.name}, version {c.version}, {len(c.principles)} principles"
           + (f", round {number}" if number > 1 else "") + (f": {c.description}" if c.description else "."))
    yield from _models(found)
    yield ("SL policy: the base model trained on revised answers. RL policy: the SL policy trained further on the "
           "reward of a model that learned from the labels. SFT baseline: the base model trained on the same number of "
           "unrevised answers. base again: the base model sampled a second time, which shows the effect of chance.")
    yield from older(found.side)


def _models(found: Evidence) -> Iterator[str]:
    models = found.setting("evaluation", "models", "generator")
    if not models:
        return
    settings = found.side.records["evaluation"].settings["models"]
    trained, judge = (str((settings.get(role) or models)["source"]) for role in ("policy", "judge"))
    own = (" The judge is the model that the policies were trained from: set models.judge to a different, stronger "
           "model."
           if trained == judge else "")
    yield f"Trained from {model_name(trained)}; judged by {model_name(judge)}.{own}"


def stamp(found: Evidence, others: Sequence[Evidence]) -> str:
    """Names the records that the page was made from."""
    return tagged_hash("page", [found.stamp, sorted(o.rests_on("evaluation") for o in others)])


def page_path(layout: Layout, name: str) -> Path:
    """``reports/version/<VERSION>.html`` under the data root."""
    return page_file(layout, "version", name)


def save(found: Evidence, others: Sequence[Evidence] = (), path: Path | None = None) -> Path:
    """Write the page whole or not at all, by default to ``page_path``; return where it is."""
    path = path or page_path(found.layout, found.side.name)
    write_page(path, render(found, others))
    return path
