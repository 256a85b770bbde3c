"""Whether answers with the constitution in view have collapsed: nearly the same one to every prompt, or cut short.

Training on one's own answers in context can teach a model short, cautious answers that fit everything (COPSD, arXiv
2606.03089). Both signs are measured on the answers before they are trained on, against the first responses to the same
prompts, with the prompt as the unit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from cai_assets.evals.hacking import Finding, beyond
from cai_assets.evals.statistics import Estimate, clustered_difference
from cai_assets.evals.text import words
from cai_assets.settings import Monitors
from cai_assets.steps.prompt_near import repeats
from cai_assets.steps.prompt_rows import normalize

Answers = Sequence[tuple[str, str]]  # prompt id and text


def collapse(revisions: pl.DataFrame, limits: Monitors, confidence: float = 0.95) -> list[Finding]:
    """Findings over the rows that have an answer (``revision``) and a first response (``before``)."""
    usable = revisions.drop_nulls(["revision", "before"]).sort("round", "prompt_id")
    rounds = [part for _, part in usable.group_by("round", maintain_order=True)]
    own = [list(part.select("prompt_id", "revision").iter_rows()) for part in rounds]
    first = [list(part.select("prompt_id", "before").iter_rows()) for part in rounds]
    same = clustered_difference(_by_prompt(map(repeated, own)), _by_prompt(map(repeated, first)), confidence)
    return [beyond("near_identical", "answers that nearly repeat another prompt's, in context less first responses",
                   same, limits.sameness_growth, confidence),
            beyond("shortening", "share of the first responses' words that is lost in context",
                   _lost(own, first, confidence), limits.shortening, confidence)]


def repeated(answers: Answers) -> list[tuple[str, float]]:
    """For each answer 1.0 if it is nearly the text of one before it, by ``prompt_near``, else 0.0."""
    texts = [normalize(text) or "-" for _, text in answers]
    again = repeats(texts)
    return [(prompt, float(i in again)) for i, (prompt, _) in enumerate(answers)]


def _lost(own: Sequence[Answers], first: Sequence[Answers], confidence: float) -> Estimate:
    counted = [[[(prompt, float(len(words(text)))) for prompt, text in part] for part in side] for side in (first, own)]
    usual = [n for part in counted[0] for _, n in part]
    if not sum(usual):
        return Estimate(None, 0)
    mean = sum(usual) / len(usual)
    before, after = ({p: [n / mean for n in ns] for p, ns in _by_prompt(side).items()} for side in counted)
    return clustered_difference(before, after, confidence, bounds=None)


def _by_prompt(parts: Iterable[Sequence[tuple[str, float]]]) -> Mapping[str, list[float]]:
    found = defaultdict[str, list[float]](list)
    for part in parts:
        for prompt, value in part:
            found[prompt].append(value)
    return found
