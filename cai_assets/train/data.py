"""From a job's Parquet file to token ids.

Every text is tokenized here, once, by the ``Templater`` that sampling uses too: a trainer never sees text, so it
cannot render it differently. A row that is too long loses its earliest turns, whole ones, and keeps the system turn and
all from a turn of the user on; one that is still too long is left out. Both are counted (``fit.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cai_assets.engines.protocol import Message
from cai_assets.engines.templating import Templater
from cai_assets.train.fit import PART, READ, Encoded, Fit, count
from cai_assets.train.problems import TrainingProblem

TrainingRow = dict[str, Any]
GIVEN, LEARNED = "thought_given", "thought_learned"


def read_rows(path: Path, columns: Sequence[str]) -> list[TrainingRow]:
    """Read the named columns of a Parquet file, in file order, and ``part`` and thoughts if they are there. Raise
    TrainingProblem when one is missing."""
    import polars as pl

    if not path.is_file():
        raise TrainingProblem(f"no training data at {path}")
    there = pl.read_parquet_schema(path)
    missing = [c for c in columns if c not in there]
    if missing:
        raise TrainingProblem(f"{path} lacks the column(s) {', '.join(missing)}")
    return pl.read_parquet(path, columns=[*columns, *(c for c in (PART, GIVEN, LEARNED) if c in there)]).to_dicts()


def shorter(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """The messages; then, as long as there are any, without one more of the earliest turns up to the next by the user.
    System turns at the beginning stay."""
    yield messages
    first = next((i for i, m in enumerate(messages) if m["role"] != "system"), len(messages))
    for i in range(first + 1, len(messages)):
        if messages[i]["role"] == "user":
            yield [*messages[:first], *messages[i:]]


def encode(
    messages: Sequence[Message], responses: Sequence[str], templater: Templater, max_length: int, *, thought: str = ""
) -> Encoded | None:
    """As much of the prompt as leaves each response, and the thought before it, whole within ``max_length`` tokens;
    None where none does."""
    for kept in shorter(messages):
        both = [templater.encode_response(kept, response, thought) for response in responses]
        prompt, ids = both[0][0], [response for _, response in both]
        thinks = templater.encode_thought(kept, thought) if thought else []
        if prompt and len(prompt) + len(thinks) + max(map(len, ids)) <= max_length:
            return Encoded(prompt, ids, kept is not messages, thinks)
    return None


def supervised_rows(
    rows: Iterable[TrainingRow], templater: Templater, max_length: int, part: str = "rows"
) -> tuple[list[TrainingRow], Fit]:
    """``input_ids`` and ``labels`` (-100 on the prompt, and on a thought that is given) per row."""
    out, fit = [], Fit()
    for row in rows:
        given, learned = row.get(GIVEN) or "", row.get(LEARNED) or ""
        one = encode(row["messages"], [row["response"]], templater, max_length, thought=given or learned)
        if count(one, fit, row.get(PART) or part):
            (response,) = one.responses
            known = [-100] * len(one.prompt) + (one.thought if learned else [-100] * len(one.thought))
            out.append({"input_ids": one.prompt + one.thought + response, "labels": known + response})
    return out, fit


def text_rows(
    rows: Iterable[TrainingRow], templater: Templater, max_length: int, part: str = "rows"
) -> tuple[list[TrainingRow], Fit]:
    """``input_ids`` and equal ``labels``: each text up to and with its end-of-text token, outside of any chat. A longer
    one than ``max_length`` becomes several rows, so that none is cut and none left out."""
    out, fit = [], Fit()
    for row in rows:
        ids = templater.encode_text(row["text"])
        fit[row.get(PART) or part, READ] += 1
        pieces = [ids[i : i + max_length] for i in range(0, len(ids), max_length)]
        out += [{"input_ids": piece, "labels": piece} for piece in pieces if len(piece) > 1]
    return out, fit


def preference_rows(
    rows: Iterable[TrainingRow], templater: Templater, max_length: int
) -> tuple[list[TrainingRow], Fit]:
    """``chosen_ids`` and ``rejected_ids`` behind the same prompt.

    ``index`` is the row's position in ``rows``; ``held_out`` and ``p_chosen`` are passed on.
    """
    out, fit = [], Fit()
    for index, row in enumerate(rows):
        one = encode(row["messages"], [row["chosen"], row["rejected"]], templater, max_length)
        if count(one, fit, row.get(PART) or "pairs"):
            chosen, rejected = one.responses
            labels = {"index": index, "held_out": row["held_out"], "p_chosen": row["p_chosen"]}
            out.append({"chosen_ids": one.prompt + chosen, "rejected_ids": one.prompt + rejected} | labels)
    return out, fit


def pair_rows(rows: Iterable[TrainingRow], templater: Templater, max_length: int) -> tuple[list[TrainingRow], Fit]:
    """``prompt_ids``, ``chosen_ids``, ``rejected_ids`` and ``p_chosen``."""
    out, fit = [], Fit()
    for row in rows:
        one = encode(row["messages"], [row["chosen"], row["rejected"]], templater, max_length)
        if count(one, fit, "pairs"):
            chosen, rejected = one.responses
            out.append({"prompt_ids": one.prompt, "chosen_ids": chosen, "rejected_ids": rejected,
                        "p_chosen": row["p_chosen"]})
    return out, fit


def prompt_rows(
    rows: Iterable[TrainingRow], templater: Templater, room: int, *, columns: Sequence[str] = (), part: str = "prompts"
) -> tuple[list[TrainingRow], Fit]:
    """``prompt`` as at most ``room`` token ids, and the named columns as they are."""
    out, fit = [], Fit()
    for row in rows:
        one = _prompt(row["messages"], templater, room)
        if count(one, fit, part):
            out.append({"prompt": one.prompt} | {name: row[name] for name in columns})
    return out, fit


def _prompt(messages: Sequence[Message], templater: Templater, room: int) -> Encoded | None:
    for kept in shorter(messages):
        ids = templater.encode_chat(kept)
        if len(ids) <= room:
            return Encoded(ids, [], kept is not messages)
    return None
