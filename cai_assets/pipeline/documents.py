"""The stage of the documents about the principles, and whether a version has any."""

from __future__ import annotations

import polars as pl

from cai_assets.pipeline.context import Context
from cai_assets.steps.documents import write_documents


def midtrains(run: Context) -> bool:
    """Whether the SL policy starts from one that was trained on documents: where settings ask for any, in round 1.
    Later rounds start from a policy that was."""
    return run.settings.documents.on and run.before() is None


def spec_documents(run: Context) -> pl.DataFrame:
    """Documents about each principle, by the writer."""
    run.note("constitution")
    return write_documents(run.constitution, run.settings.documents, complete=run.complete("writer"))
