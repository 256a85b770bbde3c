"""Response pairs: what the labeler chooses between (Bai et al. 2022, section 4.1).

Two samples of the same policy or of the pinned generator, or a prompt's initial response against its last revision.
Nothing is dropped: a pair without two texts carries the reason, and two equal texts are marked as identical.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from cai_assets.engines.protocol import Call, Sampling
from cai_assets.settings import Pairs
from cai_assets.steps.complete import Completer, Row
from cai_assets.steps.respond import RESPOND
from cai_assets.steps.tables import ended, parts_of
from cai_assets.steps.thoughts import NO_THOUGHT, thought_fields, thought_schema
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.keys import row_id
from cai_assets.store.tables import Parts

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "pair_id": pl.String, "prompt_id": pl.String, "kind": pl.String, "category": pl.String,
    "messages": pl.List(pl.Struct({"role": pl.String, "content": pl.String})),
    "response_a": pl.String, "response_b": pl.String, "identical": pl.Boolean, "error": pl.String,
    "origin_a": pl.String, "origin_b": pl.String, "temperature_a": pl.Float64, "temperature_b": pl.Float64,
    "row_key_a": pl.String, "row_key_b": pl.String, "row_id_a": pl.String, "row_id_b": pl.String,
}

READ = ("prompt_id", "kind", "category", "messages")


class Side(NamedTuple):
    """One response of a pair. ``origin``: 'policy', 'generator', 'initial' or 'revision'. Without text, ``error``."""

    text: str | None
    origin: str
    temperature: float
    row_key: str
    row_id: str
    error: str | None = None
    thought: dict[str, str | None] = NO_THOUGHT


def calls_per_prompt(settings: Pairs) -> int:
    """Model calls that the pairs of one prompt take."""
    return 0 if settings.source == "revision" else settings.candidates


def pairings(settings: Pairs) -> list[tuple[str, int, int]]:
    """Number of each pair of a prompt, and the candidates in it.

    Disjoint pairs are numbered from 0; the others are named by their candidates. So an id means the same two samples
    whatever the number of candidates and the way to combine them.
    """
    disjoint = [(str(i // 2), i, i + 1) for i in range(0, settings.candidates - 1, 2)]
    if settings.combine == "disjoint":
        return disjoint
    taken = {(i, j) for _, i, j in disjoint}
    every = itertools.combinations(range(settings.candidates), 2)
    return [*disjoint, *((f"{i}v{j}", i, j) for i, j in every if (i, j) not in taken)]


def pair_responses(prompts: pl.DataFrame, *, complete: Completer, settings: Pairs, max_tokens: int) -> pl.DataFrame:
    """Pairs of samples of one model. ``prompts`` needs prompt_id, kind, category and messages."""
    if settings.source == "revision":
        raise ValueError("pairs.source='revision' samples nothing: use pair_revisions")
    chosen = prompts.filter(paired(settings))
    return pl.concat(pairs_of([chosen.sort("prompt_id")], chosen.height, complete=complete, settings=settings,
                              max_tokens=max_tokens), rechunk=True)


def paired(settings: Pairs) -> pl.Expr:
    """Which training prompts get pairs."""
    return pl.lit(True) if settings.helpful else pl.col("kind") != "helpful"


def pairs_of(
    prompts: Parts, count: int, *, complete: Completer, settings: Pairs, max_tokens: int
) -> Iterator[pl.DataFrame]:
    """As ``pair_responses``, a part at a time, of ``count`` prompts in the order of prompt_id, all of which are taken.
    """
    samplings = [Sampling(temperature=t, top_p=settings.top_p, max_tokens=max_tokens) for t in settings.temperatures]
    drawn = list(itertools.islice(itertools.cycle(samplings), settings.candidates))
    asked, wanted = itertools.tee(row for part in prompts for row in part.select(READ).iter_rows(named=True))
    calls = (Call(messages=tuple(p["messages"]), sampling=s, sample=i) for p in asked for i, s in enumerate(drawn))
    rows = complete.each(RESPOND, calls, count=count * len(drawn), what="response pairs")
    kept = {f"{name}_{side}": kind for side in "ab" for name, kind in thought_schema(complete).items()}
    return (part for part, in parts_of(((pair,) for pair in _pairs_of(wanted, rows, drawn, settings)), SCHEMA | kept))


def _pairs_of(prompts: Iterable[Mapping[str, Any]], rows: Iterator[Row], drawn: Sequence[Sampling], settings: Pairs
              ) -> Iterator[dict[str, object]]:
    for prompt in prompts:
        sides = [_sample(prompt, next(rows), settings.source, s.temperature) for s in drawn]
        for number, i, j in pairings(settings):
            yield _pair(prompt, number, sides[i], sides[j])
    ended(rows)


def pair_revisions(responses: pl.DataFrame, revisions: pl.DataFrame, *, temperature: float) -> pl.DataFrame:
    """The initial response to each red-team prompt against the last revision that came out; no model is called.

    Which of the two is A is decided by a hash of the pair id, so that a labeler that prefers a place shows itself.
    Helpful prompts have no revision, and so no pair. ``temperature``: of both, as they were generated.
    """
    chains = {str(key[0]): rows.to_dicts() for key, rows in revisions.sort("prompt_id", "round").group_by("prompt_id")}
    pairs = []
    for prompt in responses.filter(pl.col("kind") == "red-team").sort("prompt_id").iter_rows(named=True):
        initial = Side(prompt["response"], "initial", temperature, prompt["row_key"], prompt["row_id"],
                       prompt["error"])
        sides = (initial, _revised(chains.get(prompt["prompt_id"], []), temperature))
        swapped = int(tagged_hash("side", f"{prompt['prompt_id']}-0")[-1], 16) % 2
        pairs.append(_pair(prompt, "0", sides[swapped], sides[1 - swapped]))
    return pl.DataFrame(pairs, schema=SCHEMA)


def _sample(prompt: Mapping[str, Any], row: Row, origin: str, temperature: float) -> Side:
    text = None if row.text is None else row.text.strip()
    return Side(text, origin, temperature, row.row_key, row_id(row.row_key, row.text, [prompt["prompt_id"]]), row.error,
                thought_fields(row))


def _revised(chain: Sequence[Mapping[str, Any]], temperature: float) -> Side:
    for row in reversed(chain):
        if row["revision"]:
            return Side(row["revision"], "revision", temperature, row["row_key"], row["row_id"])
    why = next((why for row in chain if (why := row["error"] or row.get("stopped"))), "its chain has no round")
    return Side(None, "revision", temperature, "", "", f"no revision: {why}")


def _pair(prompt: Mapping[str, Any], number: str, a: Side, b: Side) -> dict[str, object]:
    return {
        "pair_id": f"{prompt['prompt_id']}-{number}", "prompt_id": prompt["prompt_id"], "kind": prompt["kind"],
        "category": prompt["category"], "messages": prompt["messages"],
        "response_a": a.text, "response_b": b.text, "identical": bool(a.text) and a.text == b.text,
        "error": next((f"response {name}: {side.error or 'empty'}" for name, side in (("A", a), ("B", b))
                       if not side.text), None),
        "origin_a": a.origin, "origin_b": b.origin, "temperature_a": a.temperature, "temperature_b": b.temperature,
        "row_key_a": a.row_key, "row_key_b": b.row_key, "row_id_a": a.row_id, "row_id_b": b.row_id,
        **{f"{name}_{side}": value for side, one in (("a", a), ("b", b)) for name, value in one.thought.items()},
    }
