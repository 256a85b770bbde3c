"""AI preference labels (Bai et al. 2022, section 4.1; both orders as in Lee et al. 2023, section 3.1).

One principle is drawn for each pair; the labeller is asked in both orders which response it prefers, and the
probabilities of the answers 'A' and 'B' are read exactly from the model, never parsed from text. A pair that
cannot be compared, or whose answer cannot be read, is ungraded: a state of its own, not a verdict.
"""

from __future__ import annotations

import polars as pl

from cai_assets.constitution.digest import principle_digest
from cai_assets.constitution.draw import draw, label_key
from cai_assets.constitution.model import Constitution
from cai_assets.lineage.keys import row_id
from cai_assets.settings import Labels
from cai_assets.steps.compare import comparison_call, p_first
from cai_assets.steps.complete import Completer, Row, Step

LABEL = Step("label")

ADDED = {
    "principle_id": pl.String, "principle_digest": pl.String,
    "p_a_first": pl.Float64, "p_a_second": pl.Float64, "p_a": pl.Float64, "label": pl.String,
    "chosen": pl.String, "rejected": pl.String, "p_chosen": pl.Float64,
    "row_key_first": pl.String, "row_key_second": pl.String, "row_id": pl.String,
}


def label_pairs(
    pairs: pl.DataFrame, constitution: Constitution, *, complete: Completer, settings: Labels
) -> pl.DataFrame:
    """Add label columns to every pair.

    ``p_a_first``: probability of the first response when it is shown as A; ``p_a_second``: when it is shown as B;
    ``p_a``: their mean. ``label``: 'A', 'B', 'tie' (the two orders contradict or balance) or 'ungraded'.
    """
    principles = constitution.taking_part("preference")
    if not principles:
        raise ValueError(f"{constitution.name} {constitution.version}: no principle has a 'preference' request, "
                         "so nothing can be labelled; add one to the constitution file")
    shots = constitution.few_shots.preference if settings.few_shots else ()
    rows = pairs.to_dicts()
    ready = [r for r in rows if r["error"] is None and not r["identical"]]
    drawn = {r["pair_id"]: draw(principles, label_key(r["pair_id"])) for r in rows}
    calls = [
        comparison_call(r["messages"], *texts, request=str(drawn[r["pair_id"]].preference),
                        style=settings.style, few_shots=shots)
        for r in ready for texts in ((r["response_a"], r["response_b"]), (r["response_b"], r["response_a"]))
    ]
    answers = complete(LABEL, calls, what="labels")
    orders = {r["pair_id"]: (answers[2 * i], answers[2 * i + 1]) for i, r in enumerate(ready)}
    labelled = [_label(r, orders.get(r["pair_id"])) for r in rows]
    for row in labelled:
        principle = drawn[str(row["pair_id"])]
        row["principle_id"] = principle.id
        row["principle_digest"] = principle_digest(principle, "preference")
    return pl.DataFrame(labelled, schema={**pairs.schema, **ADDED})


def probability_of_a(row: Row) -> float | None:
    """Probability of 'A', normalised over 'A' and 'B'; None if either could not be read."""
    return p_first(row.logprobs) if row.text is not None and len(row.logprobs) == 2 else None


def _label(pair: dict[str, object], orders: tuple[Row, Row] | None) -> dict[str, object]:
    first, swapped = (probability_of_a(orders[0]), probability_of_a(orders[1])) if orders else (None, None)
    p_first, p_second = first, None if swapped is None else 1.0 - swapped
    p_a = None if p_first is None or p_second is None else (p_first + p_second) / 2
    error = pair["error"] or ("identical responses" if pair["identical"] else None)
    if error is None and p_a is None and orders:
        error = next((r.error for r in orders if r.error), "the answers' probabilities could not be read")
    a, b = pair["response_a"], pair["response_b"]
    chosen, rejected = (None, None) if p_a is None else ((a, b) if p_a >= 0.5 else (b, a))
    keys = (orders[0].row_key, orders[1].row_key) if orders else ("", "")
    return {
        **pair, "error": error, "p_a_first": p_first, "p_a_second": p_second, "p_a": p_a,
        "label": verdict(p_first, p_second), "chosen": chosen, "rejected": rejected,
        "p_chosen": None if p_a is None else max(p_a, 1.0 - p_a),
        "row_key_first": keys[0], "row_key_second": keys[1],
        "row_id": row_id(canonical_pair(keys), None if p_a is None else repr(p_a),
                         [str(pair["row_id_a"]), str(pair["row_id_b"])]),
    }


def canonical_pair(keys: tuple[str, str]) -> str:
    """The two orders of one comparison as one key."""
    return "+".join(keys)


def verdict(p_first: float | None, p_second: float | None) -> str:
    """'A' or 'B' if both orders agree, 'tie' if not, 'ungraded' if either is missing."""
    if p_first is None or p_second is None:
        return "ungraded"
    if p_first > 0.5 and p_second > 0.5:
        return "A"
    return "B" if p_first < 0.5 and p_second < 0.5 else "tie"


def comparisons(labelled: pl.DataFrame, held_out: float) -> pl.DataFrame:
    """Training rows for the reward model: graded pairs, with a stable held-out share by prompt.

    A prompt's pairs fall on one side together, so that the held-out accuracy is of unseen prompts.
    """
    graded = labelled.filter(pl.col("p_a").is_not_null() & (pl.col("p_a") != 0.5)).sort("pair_id")
    place = pl.col("prompt_id").map_elements(_place, return_dtype=pl.Float64)
    return graded.select("pair_id", "prompt_id", "principle_id", "messages", "chosen", "rejected", "p_chosen",
                         (place < held_out).alias("held_out"))


def _place(prompt_id: str) -> float:
    return int(row_id("held-out", prompt_id, [])[-8:], 16) / 2**32
