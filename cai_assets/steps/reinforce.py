"""What the RL policy is trained on: prompts, or labeled pairs, with a stable share of the prompts held out.

The share is cut by the same hash as the reward model's: where it is no larger, the reward model was not trained on the
prompts that the policy is measured on. One prompt at least is held out, unless the share is 0 or there is no other.
"""

from __future__ import annotations

import polars as pl

from cai_assets.constitution.draw import draw_many, label_key
from cai_assets.constitution.model import Constitution
from cai_assets.steps.comparisons import comparisons, held_out_place
from cai_assets.steps.questions import NoRequest


def prompts_to_train_on(pairs: pl.DataFrame, share: float) -> pl.DataFrame:
    """``prompt_id``, ``messages`` and ``held_out``: each prompt once, in canonical order."""
    prompts = pairs.unique("prompt_id", maintain_order=True).sort("prompt_id").select("prompt_id", "messages")
    return prompts.with_columns(pl.col("prompt_id").is_in(sorted(held_out(prompts, share))).alias("held_out"))


def pairs_to_train_on(labeled: pl.DataFrame, share: float) -> pl.DataFrame:
    """``pair_id``, ``prompt_id``, ``messages``, ``chosen``, ``rejected``, ``p_chosen`` and ``held_out`` of every graded
    pair."""
    graded = comparisons(labeled, share).select("pair_id", "prompt_id", "messages", "chosen", "rejected", "p_chosen")
    return graded.with_columns(pl.col("prompt_id").is_in(sorted(held_out(graded, share))).alias("held_out"))


def with_requests(rows: pl.DataFrame, constitution: Constitution, *, held_out: bool = False) -> pl.DataFrame:
    """Add ``request``, by which the labeler grades responses, and ``graded_by``, the principle that the prompt draws
    and whose request it is. ``held_out``: only responses to held-out prompts are graded."""
    principles = constitution.taking_part("preference")
    if not principles:
        raise NoRequest(f"{constitution.name} {constitution.version}: no principle has a 'preference' request, so the "
                        "labeler cannot grade responses; add one to the constitution file")
    drawn = draw_many(principles, map(label_key, rows["prompt_id"]))
    grades = pl.col("held_out") if held_out else pl.lit(True)
    return rows.with_columns(pl.Series("request", [str(p.preference) for p in drawn], dtype=pl.String),
                             pl.Series("graded_by", [p.id for p in drawn], dtype=pl.String)).with_columns(
        graded_by=pl.when(grades).then("graded_by"))


def held_out(rows: pl.DataFrame, share: float) -> set[str]:
    """The prompts that are measured on and not trained on."""
    places = {prompt: held_out_place(prompt) for prompt in rows["prompt_id"].unique().to_list()}
    below = {prompt for prompt, place in places.items() if place < share}
    return below or ({min(places, key=lambda p: places[p])} if share > 0 and len(places) > 1 else set())
