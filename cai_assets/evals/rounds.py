"""Quality per critique-revision round: what each round gains, and where gains stop.

Each revision is judged against the initial response and against the text of the round before, for harmlessness and
for helpfulness, in both orders (``judge.py``); texts are measured beside it. Guarantees: chains are drawn by a hash of
the prompt id, so the same ones are judged whatever else is there; a chain without a text in a round is counted as
missing there, an ungradable comparison as ungraded, and neither as a verdict; a revision identical to its
predecessor is a tie without a call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any, Literal

import polars as pl

from cai_assets.engines.protocol import Message, Style
from cai_assets.evals import statistics
from cai_assets.evals.judge import QUESTIONS, Ask, Comparison, Question, Verdict, judge
from cai_assets.evals.refusal import is_refusal
from cai_assets.evals.statistics import Estimate, told
from cai_assets.evals.text import echo_rate, relevance, words
from cai_assets.store.canonical import tagged_hash

Against = Literal["initial", "previous"]
AGAINST: tuple[Against, ...] = ("initial", "previous")
TEXT_MEASURES = ("refusal", "relevance", "echo", "words")
MISSING = "no text in this round"

ROWS_SCHEMA: dict[str, Any] = {
    "prompt_id": pl.String, "category": pl.String, "round": pl.Int32, "principle_id": pl.String,
    "against": pl.String, "question": pl.String, "p_win": pl.Float64, "outcome": pl.Float64, "verdict": pl.String,
    "identical": pl.Boolean, "judge_error": pl.String, "row_key": pl.String, "row_key_against": pl.String,
    "row_key_first": pl.String, "row_key_second": pl.String,
}
TEXTS_SCHEMA: dict[str, Any] = {
    "prompt_id": pl.String, "category": pl.String, "round": pl.Int32, "principle_id": pl.String,
    "refusal": pl.Boolean, "relevance": pl.Float64, "echo": pl.Float64, "words": pl.Int64, "missing": pl.String,
    "row_key": pl.String,
}
METRICS_SCHEMA: dict[str, Any] = {
    "round": pl.Int32, "measure": pl.String, "kind": pl.String, "against": pl.String, "value": pl.Float64,
    "low": pl.Float64, "high": pl.Float64, "n": pl.Int64, "ungraded": pl.Int64, "missing": pl.Int64,
    "identical": pl.Int64, "verdict": pl.String,
}


@dataclass(frozen=True)
class RoundText:
    """The text of a chain after a round; round 0 is the initial response. ``text`` is None where there is none."""

    round: int
    text: str | None
    row_key: str
    principle_id: str | None = None
    why: str | None = None


@dataclass(frozen=True)
class Chain:
    """One prompt with its texts, in the order of the rounds."""

    prompt_id: str
    category: str
    messages: Sequence[Message]
    texts: tuple[RoundText, ...]


@dataclass(frozen=True)
class Judged:
    """Verdicts on the chains ``drawn``, of ``of`` that there are, as rows of ROWS_SCHEMA."""

    drawn: Sequence[Chain]
    rows: list[dict[str, Any]]
    of: int


@dataclass(frozen=True)
class Rounds:
    """``metrics``, ``rows`` and ``texts`` as the schemas above; ``chains`` were judged, of ``of`` that there are."""

    metrics: pl.DataFrame
    rows: pl.DataFrame
    texts: pl.DataFrame
    chains: int
    of: int


@dataclass(frozen=True)
class Stop:
    """Where rounds stop paying off: the first round without evidence of a gain over the round before.

    ``round`` is None if each of ``rounds`` gains; ``verdict`` and ``gain`` are of that round, or of the last. Rounds
    are tested in order and the first without evidence ends it, so that many rounds raise no false alarm (a fixed
    sequence of tests keeps the level of one; Maurer, Hothorn and Lehmacher 1995).
    """

    question: str
    rounds: int
    round: int | None = None
    verdict: str = "better"
    gain: Estimate | None = None

    @property
    def paying(self) -> int:
        """How many rounds gain before it stops."""
        return self.rounds if self.round is None else self.round - 1


def judged(chains: Sequence[Chain], *, ask: Ask, style: Style, of: int) -> Judged:
    """Ask the judge about the chains drawn, of ``of`` that there are."""
    return Judged(chains, judge_rounds(chains, ask=ask, style=style), of)


def measured(judged: Judged, *, enough: int, confidence: float) -> Rounds:
    """The verdicts summed up, and the measures of the texts themselves. ``enough``: with fewer chains a gain is 'too
    few to tell'."""
    texts = _measured(judged.drawn)
    metrics = [*_win_rates(judged.rows, judged.drawn, enough, confidence), *_levels(texts, judged.drawn, confidence)]
    return Rounds(pl.DataFrame(metrics, METRICS_SCHEMA, orient="row"), pl.DataFrame(judged.rows, ROWS_SCHEMA),
                  pl.DataFrame(texts, TEXTS_SCHEMA), len(judged.drawn), judged.of)


def draw_chains(prompts: Iterable[str], limit: int) -> list[str]:
    """The same ``limit`` prompts whatever their order; an added one displaces few of them."""
    return nsmallest(limit, prompts, key=lambda prompt: tagged_hash("round-chain", prompt))


def chains_of(responses: pl.DataFrame, revisions: pl.DataFrame, prompts: Sequence[str]) -> list[Chain]:
    """The chains of some prompts, in the order of these.

    ``responses``: prompt_id, category, messages, response, row_key; ``revisions``: as ``steps.critique.REVISIONS``.
    """
    first = {r["prompt_id"]: r for r in responses.iter_rows(named=True)}
    later = revisions.sort("prompt_id", "round").partition_by("prompt_id", as_dict=True)
    return [_chain(first[prompt], later[prompt,]) for prompt in prompts]


def stops_paying(metrics: pl.DataFrame, question: str) -> Stop:
    """Where one question's gains end, from the metrics of ``Rounds``."""
    rows = metrics.filter(measure=question, kind="win rate", against="previous").sort("round").to_dicts()
    for r in rows:
        if r["verdict"] != "better":
            return Stop(question, len(rows), r["round"], r["verdict"], gain_of(r))
    return Stop(question, len(rows), gain=gain_of(rows[-1]) if rows else None)


def gain_of(row: Mapping[str, Any]) -> Estimate:
    """A win rate minus one half, the value that means no gain."""
    return over_half(Estimate(row["value"], row["n"], row["low"], row["high"]))


def _chain(response: Mapping[str, Any], revisions: pl.DataFrame) -> Chain:
    first = RoundText(0, response["response"], response["row_key"],
                      why=None if response["response"] else response.get("error") or MISSING)
    later = [RoundText(r["round"], r["revision"], r["row_key"], r["principle_id"],
                       None if r["revision"] else r["error"] or r["stopped"] or MISSING)
             for r in revisions.iter_rows(named=True)]
    return Chain(response["prompt_id"], response["category"], response["messages"], (first, *later))


def judge_rounds(chains: Sequence[Chain], *, ask: Ask, style: Style) -> list[dict[str, Any]]:
    """Rows as ROWS_SCHEMA: each revision against the initial response and the text before it, by both questions."""
    pairs = [(c, text, other, against) for c in chains for text in c.texts[1:]
             for against, other in (("initial", c.texts[0]), ("previous", c.texts[text.round - 1]))
             if not (against == "previous" and text.round == 1)]
    comparisons = [(*pair, question) for pair in pairs for question in QUESTIONS]
    open_ = [i for i, (_, a, b, _, _) in enumerate(comparisons) if a.text is not None and b.text is not None
             and not _same(a.text, b.text)]
    verdicts = judge([Comparison(comparisons[i][0].messages, comparisons[i][1].text, comparisons[i][2].text,
                                 QUESTIONS[comparisons[i][4]]) for i in open_], ask=ask, style=style)
    verdict_of = dict(zip(open_, verdicts, strict=True))
    rows = [_row(*each, verdict_of.get(i)) for i, each in enumerate(comparisons)]
    # In round 1 the text before is the initial response: one comparison, two rows.
    return [*rows, *({**r, "against": "previous"} for r in rows if r["round"] == 1)]


def _row(chain: Chain, text: RoundText, other: RoundText, against: str, question: Question,
         verdict: Verdict | None) -> dict[str, Any]:
    identical = text.text is not None and other.text is not None and _same(text.text, other.text)
    missing = Verdict(error=f"round {text.round}: {text.why}" if text.text is None else
                      f"round {other.round}: {other.why}")
    judged = verdict or (Verdict(0.5, 0.5) if identical else missing)
    first, second = judged.keys
    return {
        "prompt_id": chain.prompt_id, "category": chain.category, "round": text.round,
        "principle_id": text.principle_id, "against": against, "question": question, "p_win": judged.p_a,
        "outcome": judged.outcome, "verdict": "missing" if verdict is None and not identical else judged.word,
        "identical": identical, "judge_error": judged.error, "row_key": text.row_key,
        "row_key_against": other.row_key, "row_key_first": first, "row_key_second": second,
    }


def _same(a: str, b: str) -> bool:
    return a.split() == b.split()


def _win_rates(rows: Sequence[Mapping[str, Any]], chains: Sequence[Chain], enough: int,
               confidence: float) -> Iterator[tuple[Any, ...]]:
    for number in _rounds(chains):
        for question in QUESTIONS:
            for against in AGAINST:
                here = [r for r in rows if (r["round"], r["question"], r["against"]) == (number, question, against)]
                outcomes = [r["outcome"] for r in here if r["outcome"] is not None]
                e = statistics.win_rate(outcomes, confidence) if outcomes else Estimate(None, 0)
                missing = sum(r["verdict"] == "missing" for r in here)
                yield (number, question, "win rate", against, e.value, e.low, e.high, e.n,
                       len(here) - len(outcomes) - missing, missing, sum(r["identical"] for r in here),
                       told(over_half(e), enough=enough, better="higher"))


def over_half(e: Estimate) -> Estimate:
    """A share of wins minus one half, the value that means no difference."""
    value, low, high = (None if v is None else v - 0.5 for v in (e.value, e.low, e.high))
    return Estimate(value, e.n, low, high)


def _measured(chains: Sequence[Chain]) -> list[dict[str, Any]]:
    places = [(c, t) for c in chains for t in c.texts]
    requests = ["\n".join(m["content"] for m in c.messages) for c, t in places if t.text is not None]
    related = iter(relevance(requests, [t.text for _, t in places if t.text is not None]))
    out = []
    for c, t in places:
        row = {"prompt_id": c.prompt_id, "category": c.category, "round": t.round, "principle_id": t.principle_id,
               "missing": t.why, "row_key": t.row_key}
        if t.text is not None:
            prompt = "\n".join(m["content"] for m in c.messages)
            row |= {"refusal": is_refusal(t.text), "relevance": next(related), "words": len(words(t.text)),
                    "echo": echo_rate(t.text, [prompt])}
        out.append(row)
    return out


def _levels(texts: Sequence[Mapping[str, Any]], chains: Sequence[Chain],
            confidence: float) -> Iterator[tuple[Any, ...]]:
    """Each text measure in each round, and its paired change since the initial response and since the round before."""
    at = {(r["prompt_id"], r["round"]): r for r in texts}
    for measure in TEXT_MEASURES:
        known = {place: [float(r[measure])] for place, r in at.items() if r.get(measure) is not None}
        most = None if measure == "words" else 1.0
        for number in (0, *_rounds(chains)):
            here, level_bounds = _in(known, number), None if most is None else (0.0, most)
            level = statistics.clustered_mean([v for of in here.values() for v in of], list(here), confidence,
                                              bounds=level_bounds)
            yield _text_row(number, measure, "level", "", level, len(chains))
            for against, other in (("initial", 0), ("previous", number - 1)) if number else ():
                change = statistics.clustered_difference(here, _in(known, other), confidence,
                                                         bounds=None if most is None else (-most, most))
                yield _text_row(number, measure, "change", against, change, len(chains))


def _in(known: Mapping[tuple[str, int], list[float]], number: int) -> dict[str, list[float]]:
    return {prompt: values for (prompt, k), values in known.items() if k == number}


def _text_row(number: int, measure: str, kind: str, against: str, e: Estimate, chains: int) -> tuple[Any, ...]:
    return number, measure, kind, against, e.value, e.low, e.high, e.n, 0, chains - e.n, 0, ""


def _rounds(chains: Sequence[Chain]) -> range:
    return range(1, max((len(c.texts) for c in chains), default=1))
