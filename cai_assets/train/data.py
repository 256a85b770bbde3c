"""From a job's Parquet file to token ids.

Every text is tokenized here, once, by the ``Templater`` that sampling uses too: a trainer never sees text, so it
cannot render it differently. A prompt that is too long is truncated from the left; a response is never cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cai_assets.engines.templating import Templater
from cai_assets.train.problems import TrainingProblem

TrainingRow = dict[str, Any]
Ids = list[int]


def read_rows(path: Path, columns: Sequence[str]) -> list[TrainingRow]:
    """Read the named columns of a Parquet file, in file order. Raise TrainingProblem when one is missing."""
    import polars as pl

    if not path.is_file():
        raise TrainingProblem(f"no training data at {path}")
    missing = [c for c in columns if c not in pl.read_parquet_schema(path)]
    if missing:
        raise TrainingProblem(f"{path} lacks the column(s) {', '.join(missing)}")
    return pl.read_parquet(path, columns=list(columns)).to_dicts()


def fit(prompt: Ids, responses: Sequence[Ids], max_length: int) -> Ids | None:
    """Shorten ``prompt`` from the left until each response fits behind it; None when one cannot.

    At least one prompt token stays: the first response token is predicted from it.
    """
    room = max_length - max(len(r) for r in responses)
    return prompt[-room:] if room >= 1 and prompt else None


def supervised_rows(
    rows: Iterable[TrainingRow], templater: Templater, max_length: int
) -> tuple[list[TrainingRow], int]:
    """``input_ids`` and ``labels`` (-100 on the prompt) per row, and how many rows were dropped."""
    out, dropped = [], 0
    for row in rows:
        prompt, response = templater.encode_response(row["messages"], row["response"])
        kept = fit(prompt, [response], max_length)
        if kept is None:
            dropped += 1
        else:
            out.append({"input_ids": kept + response, "labels": [-100] * len(kept) + response})
    return out, dropped


def preference_rows(
    rows: Iterable[TrainingRow], templater: Templater, max_length: int
) -> tuple[list[TrainingRow], int]:
    """``chosen_ids`` and ``rejected_ids`` behind the same prompt, and how many pairs were dropped.

    ``index`` is the row's position in ``rows``; ``held_out`` and ``p_chosen`` are passed on.
    """
    out, dropped = [], 0
    for index, row in enumerate(rows):
        prompt, chosen = templater.encode_response(row["messages"], row["chosen"])
        _, rejected = templater.encode_response(row["messages"], row["rejected"])
        kept = fit(prompt, [chosen, rejected], max_length)
        if kept is None:
            dropped += 1
            continue
        labels = {"index": index, "held_out": row["held_out"], "p_chosen": row["p_chosen"]}
        out.append({"chosen_ids": kept + chosen, "rejected_ids": kept + rejected} | labels)
    return out, dropped


def pair_rows(rows: Iterable[TrainingRow], templater: Templater, max_length: int) -> list[TrainingRow]:
    """``prompt_ids``, ``chosen_ids``, ``rejected_ids`` and ``p_chosen``; pairs that do not fit are left out."""
    out = []
    for row in rows:
        prompt, chosen = templater.encode_response(row["messages"], row["chosen"])
        _, rejected = templater.encode_response(row["messages"], row["rejected"])
        kept = fit(prompt, [chosen, rejected], max_length)
        if kept is not None:
            out.append({"prompt_ids": kept, "chosen_ids": chosen, "rejected_ids": rejected,
                        "p_chosen": row["p_chosen"]})
    return out


def prompt_rows(rows: Iterable[TrainingRow], templater: Templater, room: int) -> list[TrainingRow]:
    """``prompt`` as token ids, shortened from the left to ``room`` tokens."""
    return [{"prompt": templater.encode_chat(row["messages"])[-room:]} for row in rows]
