"""The report of one version as one HTML page, and where it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cai_assets.pipeline.absent import said
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
from cai_assets.reports.version.stress import stress
from cai_assets.reports.version.suites import attribution, suites, tests
from cai_assets.reports.version.training import curves, hacked
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.layout import Layout
from cai_assets.store.pages import write_page
from cai_assets.versions.rounds import round_of


def render(evidence: Evidence, others: Sequence[Evidence] = ()) -> str:
    """The whole page. ``others``: versions to stand beside it in the picture of policies."""
    blocks_of = {
        say.QUALITY: pareto(evidence, others), say.SUITES: suites(evidence), say.PRINCIPLES: principles(evidence),
        say.TESTS: tests(evidence), say.STRESS: stress(evidence), say.PREVENTS: attribution(evidence),
        say.ROUNDS: rounds(evidence), say.LABELS: labels(evidence), say.HACKING: hacked(evidence),
        "Training": curves(evidence), "Samples": samples(evidence), say.COST: cost(evidence),
        say.AGAIN: reproduce(evidence)}
    sections = [Section(title, list(blocks)) for title, blocks in blocks_of.items()
                if say.ABOUT.get(title) not in evidence.absent]
    sections.append(Section("Records", list(records(evidence)), folded=True))
    return page(f"Report of {evidence.side.name}", sections, summary=list(lead(evidence)),
                answers=list(say.answers(evidence)),
                footer=f"Based on the records named on this page: {stamp(evidence, others)}")


def lead(evidence: Evidence) -> Iterator[str]:
    """What this is, who judged, and what else a reader must know."""
    c, number = evidence.side.constitution, round_of(evidence.version).number
    yield (f"Constitution {c.name}, version {c.version}, {len(c.principles)} principles"
           + (f", round {number}" if number > 1 else "") + (f": {c.description}" if c.description else "."))
    yield from _models(evidence)
    yield from _halves(evidence)
    yield ("SFT baseline: the base model trained on the same number of "
           "unrevised answers. base again: the base model sampled a second time, which shows the effect of chance.")
    yield from older(evidence.side)


def _halves(evidence: Evidence) -> Iterator[str]:
    """What the version's policies are."""
    if half := said(evidence.side.constitution):
        yield f"{half}."
    supervised = "sl_policy" not in evidence.absent
    if supervised:
        yield "SL policy: the base model trained on revised answers."
    if "rl_policy" not in evidence.absent:
        yield (f"RL policy: the {'SL policy' if supervised else 'starting policy'} trained further on the reward that "
               "comes from the labels.")


def _models(evidence: Evidence) -> Iterator[str]:
    models = evidence.setting("evaluation", "models", "generator")
    if not models:
        return
    settings = evidence.side.records["evaluation"].settings["models"]
    trained, judge = (str((settings.get(role) or models)["source"]) for role in ("policy", "judge"))
    warning = (" The judge is the model that the policies were trained from: set models.judge to a different, stronger "
               "model."
               if trained == judge else "")
    yield f"Trained from {model_name(trained)}; judged by {model_name(judge)}.{warning}"


def stamp(evidence: Evidence, others: Sequence[Evidence]) -> str:
    """Names the records that the page was made from."""
    return tagged_hash("page", [evidence.stamp, sorted(o.rests_on("evaluation") for o in others)])


def page_path(layout: Layout, name: str) -> Path:
    """``reports/version/<VERSION>.html`` under the data root."""
    return page_file(layout, "version", name)


def save(evidence: Evidence, others: Sequence[Evidence] = (), path: Path | None = None) -> Path:
    """Write the page atomically, by default to ``page_path``; return where it is."""
    path = path or page_path(evidence.layout, evidence.side.name)
    write_page(evidence.layout, path, render(evidence, others))
    return path
