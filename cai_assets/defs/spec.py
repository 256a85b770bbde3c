"""The optional assets before supervised learning: documents about the principles, and the policy trained on them."""

import dagster as dg
import polars as pl

from cai_assets.defs.declared import asset
from cai_assets.defs.launch import train
from cai_assets.defs.metadata import curve_metadata, text_preview
from cai_assets.defs.records import record_checkpoint, store_table
from cai_assets.defs.run import Run
from cai_assets.defs.supervised_metadata import mix_metadata, mix_notes
from cai_assets.pipeline import documents, trainings
from cai_assets.steps.reasons import reason_line, tally


@asset("spec_documents")
def spec_documents(run: Run) -> dg.MaterializeResult[None]:
    """Articles, dialogues, and memos about each principle; none, and no record, unless ``documents.per_kind`` is set.

    One row per document, keyed by the texts of its principle alone. ``left_out`` says why one is not trained on.
    """
    frame = documents.spec_documents(run)
    out = frame.filter(pl.col("left_out").is_not_null())
    run.tell(reason_line(out.height, frame.height, "documents left out", out["left_out"]))
    counts = {"written": frame.height, "kept": frame.height - out.height, "left_out": tally(out["left_out"])}
    return store_table(run, "spec_documents", frame, details={"counts": counts}, metadata={
        **text_preview(frame.drop_nulls("text"), {"document_id": "document", "text": "text"}),
        "counts": dg.MetadataValue.json(counts), "truncated": frame.filter(pl.col("finish") == "length").height})


@asset("mid_policy")
def mid_policy(run: Run) -> dg.MaterializeResult[None]:
    """The starting policy after next-token training on the documents and general text (``documents.mix``), from which
    the SL policy then starts, or RL without one; not trained, and no record, unless ``documents.per_kind`` is set."""
    training, mixed = trainings.midtraining(run)
    for note in mix_notes(mixed):
        run.tell(note)
    rows = training.rows
    counts = dict(rows["principle_id"].drop_nulls().value_counts().iter_rows())
    kinds = dict(rows["kind"].value_counts().sort("kind").iter_rows())
    named = [{"id": p.id, "text": p.name or p.id, "rows": counts.get(p.id, 0)} for p in run.constitution.principles]
    done = train(run, training, card={"principles": named, "rows_by_kind": kinds})
    return record_checkpoint(run, "mid_policy", done, rows=rows.height, metadata={
        **kinds, **curve_metadata(done.checkpoint, ("loss",)), **mix_metadata(mixed)})


assets = [spec_documents, mid_policy]
