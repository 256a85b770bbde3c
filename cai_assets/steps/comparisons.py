"""What the reward model learns from: graded AI labels, and human comparisons mixed in.

Guarantee: all pairs of a prompt, from whatever source, are trained on or all held out; no human comparison of an
evaluation prompt is used; every human comparison is used, or counted with the reason why not. Prompts are the same
when their normalized texts are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import polars as pl

from cai_assets.constitution.model import Constitution
from cai_assets.errors import CaiError
from cai_assets.settings import Labels
from cai_assets.settings.base import Source
from cai_assets.steps.comparison_files import read_comparisons
from cai_assets.steps.prompt_rows import text_of
from cai_assets.steps.questions import labeling_principles
from cai_assets.store.keys import row_id

AI, HUMAN = "ai", "human"
UNUSABLE = "unusable"  # begins the reason of a row that is no comparison


class NoVotes(CaiError, ValueError):
    """The labels do not say what each principle prefers. The message says what to set."""


@dataclass(frozen=True)
class Mixed:
    """``frame``: pair_id, prompt_id, principle_id (None for people's), messages, chosen, rejected, p_chosen, held_out,
    source ('ai' or 'human'), sorted by pair_id. ``left_out``: human comparisons not used, by reason;
    ``notes``: files and columns that were not read."""

    frame: pl.DataFrame
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def by_kind(self) -> dict[str, int]:
        """The number of comparisons of each source, in words."""
        names = {AI: "AI-labelled comparisons", HUMAN: "human comparisons"}
        counts = {name: self.frame.filter(source=source).height for source, name in names.items()}
        return {name: n for name, n in counts.items() if n or name == names[AI]}

    @property
    def human_share(self) -> float:
        """The share of human comparisons that was reached."""
        return self.frame.filter(source=HUMAN).height / max(1, self.frame.height)


def comparisons(labeled: pl.DataFrame, held_out: float) -> pl.DataFrame:
    """Training rows for the reward model: graded pairs, with a stable held-out share by prompt.

    A prompt's pairs fall on one side together, so that the held-out accuracy is of unseen prompts.
    """
    graded = labeled.filter(pl.col("p_target").is_not_null() & (pl.col("p_target") != 0.5)).sort("pair_id")
    return graded.select("pair_id", "prompt_id", "principle_id", "messages", "chosen", "rejected", "p_chosen",
                         is_held_out(held_out), pl.lit(AI).alias("source"))


def vote_comparisons(labeled: pl.DataFrame, held_out: float, constitution: Constitution, settings: Labels
                     ) -> pl.DataFrame:
    """Training rows for a reward model that reads principles: one for each vote, with ``principle``, the text that it
    answers, by the principles that ``constitution`` has. Raise NoVotes if labels name no principle.

    A vote is clamped as a label is. Columns otherwise as of ``comparisons``, sorted by pair and principle.
    """
    texts = {p.id: str(p.preference) for p in labeling_principles(constitution)}
    votes = labeled.select("pair_id", "prompt_id", "messages", "response_a", "response_b", "votes").explode(
        "votes", empty_as_null=True).unnest("votes").filter(pl.col("principle_id").is_in(list(texts)))
    if not votes.height and labeled.filter(pl.col("p_target").is_not_null()).height:
        raise NoVotes("reward.input=principle learns from votes, and these labels answer all principles in one "
                      "question: set labels.principles to vote or drawn")
    low, high = settings.clamp or (0.0, 1.0)
    graded = votes.filter(pl.col("p_a").is_not_null() & (pl.col("p_a") != 0.5)).with_columns(
        p=pl.col("p_a").clip(low, high), a=pl.col("p_a") > 0.5)
    return graded.sort("pair_id", "principle_id").select(
        "pair_id", "prompt_id", "principle_id", "messages",
        pl.when("a").then("response_a").otherwise("response_b").alias("chosen"),
        pl.when("a").then("response_b").otherwise("response_a").alias("rejected"),
        pl.when("a").then("p").otherwise(1 - pl.col("p")).alias("p_chosen"),
        is_held_out(held_out), pl.lit(AI).alias("source"),
        pl.col("principle_id").replace_strict(texts, default=None, return_dtype=pl.String).alias("principle"))


def mix_human(
    rows: pl.DataFrame, source: Source, *, held_out: float, evaluation: pl.DataFrame | None = None
) -> Mixed:
    """Add human comparisons until they are ``source.share`` of all rows, or all there are. Their labels are certain,
    unless the file has soft ones.

    ``rows``: of ``comparisons``. ``evaluation``: prompts (column messages) to keep away from. Those taken have the
    lowest pair ids, which are hashes: a higher share only adds. Raise DataError for a file that cannot be read.
    """
    read = read_comparisons(source.path, columns=source.columns, training=True)
    apart = {text_of(m) for m in evaluation["messages"]} if evaluation is not None else set()
    ids = {text_of(row["messages"]): row["prompt_id"] for row in rows.iter_rows(named=True)}
    wanted = round(rows.height * source.share / (1 - source.share))
    left_out = Counter(f"{UNUSABLE}: {reason}" for reason in read.rejects["reason"])
    taken: list[dict[str, object]] = []
    for row in read.frame.iter_rows(named=True):
        text = text_of(row["messages"])
        if text in apart:
            left_out["its prompt is for evaluation"] += 1
        elif len(taken) == wanted:
            left_out["the share is reached"] += 1
        else:
            taken.append({**row, "prompt_id": ids.setdefault(text, row["prompt_id"]), "principle_id": None,
                          "held_out": False, "source": HUMAN})
    people = pl.DataFrame(taken, schema=rows.schema).with_columns(is_held_out(held_out))
    return Mixed(pl.concat([rows, people]).sort("pair_id"), dict(left_out), read.notes)


def is_held_out(share: float) -> pl.Expr:
    """Column ``held_out``: whether a row's ``prompt_id`` falls into the share. A larger share holds a smaller one."""
    place = pl.col("prompt_id").map_elements(held_out_place, return_dtype=pl.Float64)
    return (place < share).alias("held_out")


def held_out_place(prompt_id: str) -> float:
    """A prompt's place in [0, 1), by hashing."""
    return int(row_id("held-out", prompt_id, [])[-8:], 16) / 2**32
