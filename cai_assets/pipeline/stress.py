"""The stage of the stress test: who writes, who responds, and who judges by each principle alone.

The writer writes trade-off prompts and other words for questions, the generator responds, the labeler judges as it does
for a rubric reward, and ``models.judge``, where it is another model, once more. Nothing trained is asked, so that a
constitution is tested before anything is paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from cai_assets.constitution.digest import question_of
from cai_assets.constitution.model import Principle
from cai_assets.engines.protocol import Sampling
from cai_assets.evals.stress import BY_LABELER, ROWS, Judges, Question, judged
from cai_assets.pipeline.context import Context
from cai_assets.settings import Settings
from cai_assets.steps.reasons import reason_line
from cai_assets.steps.tradeoff import (
    PARAPHRASES,
    PROMPTS,
    Paraphrase,
    Tradeoff,
    paraphrase_table,
    paraphrases,
    prompt_table,
    read_tradeoffs,
    write_tradeoffs,
)


class Stressed(NamedTuple):
    """``rows``: as ROWS, one for each response; ``prompts``, ``paraphrases``: used and left out; ``silent``: principles
    without a question about one answer, which take no part."""

    rows: pl.DataFrame
    prompts: pl.DataFrame
    paraphrases: pl.DataFrame
    silent: tuple[str, ...]

    @property
    def told(self) -> list[str]:
        """What a person should know: what was left out, and why."""
        lines = [reason_line(out.height, table.height, what, out["left_out"])
                 for table, what in ((self.prompts, "trade-off prompts left out"),
                                     (self.paraphrases, "paraphrases left out"))
                 if (out := table.filter(pl.col("left_out").is_not_null())).height]
        return [*lines, *([f"{', '.join(self.silent)}: no 'rubric' and no 'preference' request, so not stressed"]
                          if self.silent else [])]


NOTHING = Stressed(pl.DataFrame(schema=ROWS), pl.DataFrame(schema=PROMPTS), pl.DataFrame(schema=PARAPHRASES), ())


def stress(run: Context) -> Stressed:
    """Responses to trade-off prompts with every verdict; nothing, and nobody is asked, unless settings want some.

    Raise DataError if the file of prompts cannot be read.
    """
    settings, every = run.settings, run.constitution.principles
    principles = [p for p in every if question_of(p)]
    if not settings.stress.on:
        return NOTHING
    silent = tuple(p.id for p in every if not question_of(p))
    writer = run.complete("writer")
    prompts = (read_tradeoffs(settings.stress.path, principles, max_chars=settings.prompts.max_chars)
               if settings.stress.path else write_tradeoffs(principles, settings, complete=writer))
    if not prompts:
        return NOTHING._replace(silent=silent)
    words = paraphrases(principles, settings, complete=writer)
    g, judges = settings.generation, Judges(
        run.complete("labeller"), run.complete("judge") if second_judge(settings) else None)
    rows = judged(_asked(settings, prompts), _questions(principles, words), responder=run.complete("generator"),
                  sampling=Sampling(temperature=settings.stress.temperature, top_p=g.top_p, max_tokens=g.max_tokens),
                  judges=judges, style=settings.labels.style)
    return Stressed(rows, prompt_table(prompts), paraphrase_table(words), silent)


def second_judge(settings: Settings) -> bool:
    """Whether ``models.judge`` is another model than the labeler."""
    return settings.models.role("judge") != settings.models.role("labeller")


def _asked(settings: Settings, prompts: Sequence[Tradeoff]) -> pl.DataFrame:
    """The responses that are wanted: the columns of ROWS up to them."""
    return pl.DataFrame([
        {"first": t.first, "second": t.second, "lean": t.lean, "prompt_id": t.prompt.prompt_id,
         "messages": list(t.prompt.messages), "row_key_prompt": t.row_key, "sample": sample}
        for t in prompts if t.prompt and t.left_out is None for sample in range(settings.stress.responses)],
        schema={name: kind for name, kind in ROWS.items() if name in ROWS.names()[:ROWS.names().index("response")]})


def _questions(principles: Sequence[Principle], words: Sequence[Paraphrase]) -> list[Question]:
    own = [Question(p.id, str(question_of(p)), BY_LABELER) for p in principles]
    return [*own, *(Question(w.principle, w.text, "paraphrase", w.number) for w in words if w.text)]
