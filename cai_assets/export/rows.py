"""Rows of the exported data sets, from the tables of one version.

Guarantees: every row names the row it came from; texts are unchanged; a row that failed or was not graded is left out
and counted by the caller.
"""

from __future__ import annotations

import polars as pl

from cai_assets.constitution.model import Constitution
from cai_assets.steps.comparisons import comparisons
from cai_assets.steps.frames import transcript

MESSAGE = pl.Struct({"role": pl.String, "content": pl.String})


def sft_rows(dataset: pl.DataFrame, version: str) -> pl.DataFrame:
    """``messages`` (the conversation with the response as its last turn) and where each row is from.

    ``dataset``: the table of sl_dataset.
    """
    return dataset.select(
        messages=pl.concat_list("messages", _turn("response")), prompt_id="prompt_id", round="round", kind="kind",
        principle_id="principle_id", source=pl.col("source").str.replace(r"^.*[/\\]", ""), finish="finish",
        row_id="row_id", version=pl.lit(version))


def preference_rows(labeled: pl.DataFrame, *, held_out: float, version: str, round_number: int) -> pl.DataFrame:
    """Conversational ``prompt``, ``chosen``, ``rejected`` with the soft label, and ``held_out``.

    ``labeled``: the table of preference_pairs. The rows are those that a reward model learns from: graded, and not
    exactly balanced; ``held_out`` is the share of prompts it holds out.
    """
    about = labeled.select("pair_id", "label", "kind", "category", "row_id", "p_a")
    rows = comparisons(labeled, held_out).drop("source").join(about, on="pair_id", how="left", maintain_order="left")
    return rows.select(
        prompt="messages", chosen=_turn("chosen"), rejected=_turn("rejected"), p_chosen="p_chosen", label="label",
        principle_id="principle_id", kind="kind", category="category", row_id="row_id", prompt_id="prompt_id",
        pair_id="pair_id", round=pl.lit(round_number, pl.Int32), version=pl.lit(version), held_out="held_out")


def cai_rows(
    responses: pl.DataFrame, critiques: pl.DataFrame, revisions: pl.DataFrame, constitution: Constitution, version: str
) -> pl.DataFrame:
    """One row for each finished revision, under the names that published CAI data sets use.

    ``init_response`` is the text that this round criticized. ``first_response`` is that of round 1, so the first and
    the last text of a chain are in the row of its ``last_round``.
    """
    requests = {p.id: {"critic_prompt": p.critique, "revision_prompt": p.revision}
                for p in constitution.taking_part("critique")}
    wanted = pl.DataFrame([{"principle_id": i, **r} for i, r in requests.items()],
                          schema={"principle_id": pl.String, "critic_prompt": pl.String, "revision_prompt": pl.String})
    prompts = responses.select(
        "prompt_id", "category", first_response="response",
        init_prompt=pl.Series([transcript(m) for m in responses["messages"]], dtype=pl.String))
    exchanged = critiques.select("round", critique_of="prompt_id", critic_response="critique", critique_id="row_id")
    rows = (revisions.filter(pl.col("revision").is_not_null()).sort("prompt_id", "round")
            .join(wanted, on="principle_id", how="left", maintain_order="left")
            .join(prompts, on="prompt_id", how="left", maintain_order="left")
            .join(exchanged, on=["round", "critique_of"], how="left", maintain_order="left"))
    return rows.select(
        "init_prompt", pl.col("before").alias("init_response"),
        pl.when(pl.col("critic_response").is_not_null()).then("critic_prompt").alias("critic_prompt"),
        "critic_response", "revision_prompt", pl.col("revision").alias("revision_response"), "first_response",
        "round", (pl.col("round") == pl.col("round").max().over("prompt_id")).alias("last_round"), "principle_id",
        "category", "prompt_id", "critique_id", "row_id", pl.lit(version).alias("version"))


def _turn(name: str) -> pl.Expr:
    """A list of one assistant turn."""
    return pl.concat_list(pl.struct(role=pl.lit("assistant"), content=pl.col(name)).cast(MESSAGE))
