"""The stage of the written prompts: what the writer writes, the filters, and the judge."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import polars as pl

from cai_assets.constitution.load import load_file
from cai_assets.evals.screen import SCREEN, screened
from cai_assets.pipeline.context import Context
from cai_assets.pipeline.held_out import held_out_texts
from cai_assets.steps import write
from cai_assets.steps.prompts import PromptKind
from cai_assets.steps.reasons import reason_line


class WrittenPrompts(NamedTuple):
    """``frame``: the prompts, as ``write.COLUMNS``; ``candidates``: all that were written, as ``write.CANDIDATES``;
    ``wanted``: how many of each kind."""

    frame: pl.DataFrame
    candidates: pl.DataFrame
    wanted: dict[PromptKind, int]

    @property
    def told(self) -> list[str]:
        """What a person should know: why candidates were left out, and shares that were not reached."""
        out = self.candidates.filter(pl.col("left_out").is_not_null())
        lines = [reason_line(out.height, self.candidates.height, "written prompts left out", out["left_out"])]
        made = {kind: self.frame.filter(kind=kind).height for kind in self.wanted}
        short = [f"only {made[kind]} of {n} wanted {kind} prompts were written: raise written.candidates"
                 for kind, n in self.wanted.items() if made[kind] < n]
        return [*filter(None, lines), *short]


def written_prompts(run: Context) -> WrittenPrompts:
    """Further training prompts; none, and nobody is asked, unless settings want some.

    Raise DataError, ConstitutionError or SuitesError if what they are written from, or kept apart from, cannot be read.
    """
    prompts, settings = run.read("prompts"), run.settings
    numbers, source = write.wanted(prompts, settings.written), settings.written.constitution
    drafts = write.drafts(prompts, settings.written, seed=settings.seed,
                          constitution=load_file(source) if source and numbers else None)
    if not drafts:
        return WrittenPrompts(write.kept([]), write.table([], {}), numbers)
    held_out = held_out_texts(settings, prompts.filter(split="evaluation")["messages"].to_list())
    found = write.candidates(prompts, drafts, list(held_out), complete=run.complete("writer"),
                             max_chars=settings.prompts.max_chars)
    judged: dict[str, float | None] = {}
    if settings.written.judge_above is not None:
        ask = partial(run.complete("judge"), SCREEN, what="judge: written prompts")
        found, judged = screened(found, above=settings.written.judge_above, ask=ask, style=settings.labels.style)
    found = write.selected(found, numbers)
    return WrittenPrompts(write.kept(found), write.table(found, judged), numbers)

