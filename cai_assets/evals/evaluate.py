"""Measure policies on held-out prompts, side by side with a baseline.

Guarantees: every response of every policy is one row, whether or not it succeeded; failed responses, and comparisons
that the judge could not grade, are never scored. Policies are compared on the same prompt and sample. Lexical measures
share one vocabulary, so policies are comparable. For the table's guarantees see ``metrics.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from cai_assets.assets import BASE, RIVALS
from cai_assets.constitution.check import Check
from cai_assets.constitution.model import Principle
from cai_assets.engines.protocol import Style
from cai_assets.evals import adherence
from cai_assets.evals.judge import QUESTIONS, Ask
from cai_assets.evals.judge_items import Columns, Item, Judging, References, judge_items, references
from cai_assets.evals.metrics import CHECK, JUDGED, METRICS_SCHEMA, metrics_table
from cai_assets.evals.refusal import is_refusal
from cai_assets.evals.rules import keeps
from cai_assets.evals.text import echo_rate, relevance_with_zero_line, same_text, words
from cai_assets.settings.method import CONFIDENCE, ENOUGH

__all__ = ["JUDGED", "METRICS_SCHEMA", "ROWS_SCHEMA", "Evaluation", "evaluate"]

WINS = Columns("p_win", "outcome", "verdict", "judge_error", "row_key_first", "row_key_second")
RIVAL_WINS = Columns("rival_p", "rival_outcome", "rival_verdict", "rival_error", "row_key_rival_first",
                     "row_key_rival_second")
ROWS_SCHEMA: dict[str, Any] = {
    "policy": pl.String, "prompt_id": pl.String, "sample": pl.Int64, "kind": pl.String, "category": pl.String,
    "response": pl.String, "row_key": pl.String, "refusal": pl.Boolean, "relevance": pl.Float64,
    "relevance_zero": pl.Float64, "echo": pl.Float64, "words": pl.Int64, "question": pl.String, "p_win": pl.Float64,
    "verdict": pl.String, "outcome": pl.Float64, "judge_error": pl.String, "row_key_first": pl.String,
    "row_key_second": pl.String, **adherence.ROWS_SCHEMA, "rival": pl.String, "rival_p": pl.Float64,
    "rival_outcome": pl.Float64, "rival_verdict": pl.String, "rival_error": pl.String,
    "row_key_rival_first": pl.String, "row_key_rival_second": pl.String,
}
KEPT = {"kept": pl.List(pl.Struct({"principle_id": pl.String, "keeps": pl.Boolean}))}
ASKED = ("prompt_id", "sample", "kind", "category", "messages")
ANSWERED = ("response", "row_key")


def evaluate(
    responses: Mapping[str, pl.DataFrame],
    *,
    ask: Ask,
    style: Style,
    principles: Sequence[Principle] = (),
    checks: Sequence[tuple[str, Check]] = (),
    baseline: str = BASE,
    confidence: float = CONFIDENCE,
    enough: int = ENOUGH,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (metrics, rows) of responses that are there, as ``Evaluation`` has them."""
    made = Evaluation(responses, principles=principles, baseline=baseline)
    judge_items(made.judgings, ask, style)
    return made.metrics(checks, confidence=confidence, enough=enough), made.rows(checks)


class Evaluation:
    """Every policy's response to each prompt and sample, and what is asked of a judge about them.

    ``responses``: for each policy a frame with ASKED: ``sample`` counts a prompt's responses from 0, ``kind`` is
    'red-team' or 'helpful'. ``items`` are its rows, in order; those of a frame with ANSWERED have a response (null if
    it failed) and its row key, the others wait for theirs. Every policy but the baseline is judged against it:
    harmlessness on red-team prompts, helpfulness on helpful ones. RIVALS are judged against each other as well.
    ``principles``: those with an evaluation request; each prompt is also judged by the one it draws
    (``adherence.py``). Raise ValueError for an unknown baseline or a sample that occurs twice.
    """

    def __init__(self, responses: Mapping[str, pl.DataFrame], *, principles: Sequence[Principle] = (),
                 baseline: str = BASE) -> None:
        if baseline not in responses:
            raise ValueError(f"evaluate: no responses of the baseline {baseline!r}; there are: {', '.join(responses)}")
        self.baseline, self.principles = baseline, principles
        self.items = {policy: _items(policy, frame) for policy, frame in responses.items()}
        self._every = [item for items in self.items.values() for item in items]
        self._judged = [i for i in self._every if i["policy"] != baseline]
        self._against = references(self._every, baseline)
        self.judgings = [*_wins(self._judged, self._against),
                         *adherence.adherence(self._judged, self._against, principles),
                         *_rivals(self._judged, self._every)]

    def metrics(self, checks: Sequence[tuple[str, Check]] = (), *, confidence: float = CONFIDENCE,
                enough: int = ENOUGH) -> pl.DataFrame:
        """As METRICS_SCHEMA, once all is answered and judged. ``checks``: of ``rules.checked``; every answer is held to
        every one."""
        _measure(self._every)
        _check(self._every, checks)
        _compare_lengths(self._judged, self._against)
        return metrics_table(
            self._every, list(self.items), self.principles, baseline=self.baseline, confidence=confidence,
            enough=enough, checks=[principle for principle, _ in checks])

    def rows(self, checks: Sequence[tuple[str, Check]] = ()) -> pl.DataFrame:
        """As ROWS_SCHEMA, one for each policy, prompt and sample; with ``checks`` the column ``kept`` too. ``p_win``
        and ``verdict`` ('win', 'tie', 'loss', 'ungraded'; null for the baseline) are the policy's."""
        schema = ROWS_SCHEMA | (KEPT if checks else {})
        return pl.DataFrame([{name: item.get(name) for name in schema} for item in self._every], schema)


def _items(policy: str, frame: pl.DataFrame) -> list[Item]:
    twice = frame.filter(frame.select("prompt_id", "sample").is_duplicated())
    if twice.height:
        raise ValueError(f"evaluate: policy {policy!r} has sample {twice['sample'][0]} of prompt "
                         f"{twice['prompt_id'][0]!r} more than once; number the responses to a prompt from 0")
    there = frame.select(*ASKED, *(name for name in ANSWERED if name in frame.columns))
    return [{"policy": policy, **row} for row in there.iter_rows(named=True)]


def _measure(items: Sequence[Item]) -> None:
    answered = [i for i in items if i["response"] is not None]
    requests = ["\n".join(m["content"] for m in i["messages"]) for i in answered]
    lines = relevance_with_zero_line(requests, [i["response"] for i in answered])
    alike = Counter((i["policy"], same_text(i["response"])) for i in answered)
    for item, prompt, own, others in zip(answered, requests, *lines, strict=True):
        text = item["response"]
        # each of k equal texts counts 1/k, so that the mean is the share of distinct texts
        item.update(refusal=is_refusal(text), relevance=own, relevance_zero=others, echo=echo_rate(text, [prompt]),
                    words=len(words(text)), distinct=1 / alike[item["policy"], same_text(text)])
    for item in items:
        item["failed"] = item["response"] is None


def _check(items: Sequence[Item], checks: Sequence[tuple[str, Check]]) -> None:
    for item in items if checks else ():
        if item["response"] is not None:
            kept = {principle: keeps(check, item["response"]) for principle, check in checks}
            item["kept"] = [{"principle_id": principle, "keeps": held} for principle, held in kept.items()]
            item.update({f"{CHECK}:{principle}": held for principle, held in kept.items()},
                        **{CHECK: all(kept.values())})


def _wins(items: Sequence[Item], against: References) -> Iterator[Judging]:
    """The judge's question about each answer and the baseline's."""
    for item in items:
        if item["kind"] in JUDGED:
            item["question"] = JUDGED[item["kind"]]
            yield _judging(item, against, WINS)


def _rivals(judged: Sequence[Item], items: Sequence[Item]) -> Iterator[Judging]:
    """The same about each answer and that of its policy's rival, where both policies are there."""
    policies = {i["policy"] for i in items}
    for policy, rival in RIVALS.items():
        if {policy, rival} <= policies:
            against = references(items, rival)
            for item in judged:
                if item["policy"] == policy and item["kind"] in JUDGED:
                    item["rival"] = rival
                    yield _judging(item, against, RIVAL_WINS)


def _judging(item: Item, against: References, columns: Columns) -> Judging:
    other = against.get((item["prompt_id"], item["sample"]))
    return Judging(item, other, QUESTIONS[JUDGED[item["kind"]]], columns)


def _compare_lengths(items: Sequence[Item], against: References) -> None:
    """How long the baseline's answer is, beside each verdict, and whether both orders agreed on that."""
    for item in items:
        if item.get("outcome") is not None:
            other = against[item["prompt_id"], item["sample"]]["response"]
            item.update(agreed=item["outcome"] != 0.5, words_baseline=len(words(other or "")))
