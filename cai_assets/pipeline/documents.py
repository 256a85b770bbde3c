"""The stage of the documents about the principles."""

from __future__ import annotations

import polars as pl

from cai_assets.pipeline.context import Context
from cai_assets.pipeline.held_out import held_out_texts
from cai_assets.pipeline.stages import HELD_OUT
from cai_assets.steps.documents import write_documents
from cai_assets.steps.texts import Texts, texts_to_train_on


def spec_documents(run: Context) -> pl.DataFrame:
    """Documents about each principle, by the writer. Raise SuitesError if what they are kept apart from cannot be
    read."""
    run.note("constitution")
    return write_documents(run.constitution, run.settings.documents, held_out=_held_out(run),
                           complete=run.complete("writer"))


def texts_of_documents(run: Context) -> Texts:
    """What the training on documents reads: those that were written, and general text. Raise SuitesError or DataError
    if a file cannot be read."""
    settings = run.settings.documents
    return texts_to_train_on(run.read("spec_documents"), settings, _held_out(run) if settings.mix else (),
                             seed=run.settings.seed)


def _held_out(run: Context) -> list[str]:
    asked = run.read("starting_responses", "messages", where=HELD_OUT)
    return list(held_out_texts(run.settings, asked["messages"].to_list()))
