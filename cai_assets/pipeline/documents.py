"""The stage of the documents about the principles."""

from __future__ import annotations

import polars as pl

from cai_assets.pipeline.context import Context
from cai_assets.steps.documents import write_documents


def spec_documents(run: Context) -> pl.DataFrame:
    """Documents about each principle, by the writer."""
    run.note("constitution")
    return write_documents(run.constitution, run.settings.documents, complete=run.complete("writer"))
