"""The stage of the documents about the principles."""

from __future__ import annotations

import polars as pl

from cai_assets.pipeline.context import Context
from cai_assets.pipeline.held_out import held_out_texts
from cai_assets.pipeline.stages import evaluation_prompts
from cai_assets.steps.documents import write_documents


def spec_documents(run: Context) -> pl.DataFrame:
    """Documents about each principle, by the writer. Raise SuitesError if what they are kept apart from cannot be
    read."""
    run.note("constitution")
    held_out = held_out_texts(run.settings, evaluation_prompts(run.read("starting_responses"))["messages"].to_list())
    return write_documents(run.constitution, run.settings.documents, held_out=list(held_out),
                           complete=run.complete("writer"))
