"""Critique-revision rounds in words and small charts, for Dagster and for the report pages."""

from __future__ import annotations

from typing import Any

import polars as pl

from cai_assets.evals.judge import QUESTIONS
from cai_assets.evals.power import beside, with_detectable
from cai_assets.evals.rounds import Stop, gain_of
from cai_assets.evals.statistics import FEW, Telling
from cai_assets.reports.charts import interval_bar
from cai_assets.reports.text.numbers import interval, plain, value_of
from cai_assets.reports.text.tables import table


def stop_sentence(stop: Stop, telling: Telling) -> str:
    """Where rounds stop paying, for one question."""
    name = stop.question.capitalize()
    if stop.gain is None:
        return f"{name}: no round was judged."
    more = beside(stop.verdict, stop.gain, telling)
    gain = f"{interval(stop.gain)}, n = {stop.gain.n}{f', {more}' if more else ''}"
    if stop.round is None:
        return (f"{name}: each of {stop.rounds} rounds gains over the previous one (the last: {gain}); whether another "
                "would is not known.")
    before = "" if stop.round == 1 else f"rounds up to {stop.round - 1} gain; " if stop.round > 2 else "round 1 gains; "
    why = {"worse": f"round {stop.round} loses", FEW: f"{FEW} whether round {stop.round} gains"}.get(
        stop.verdict, f"round {stop.round} is the first with no evidence of a gain")
    return f"{name}: {before}{why} ({gain})."


def chart(metrics: pl.DataFrame) -> str:
    """A small chart for Dagster: each round's win rate against the initial response, with interval."""
    return interval_bar({f"{r['measure']} r{r['round']}": value_of(r) for r in wins(metrics, "initial")})


def markdown(metrics: pl.DataFrame, telling: Telling) -> str:
    """Win rates against both, round by round."""
    return table(("round", "question", "against", "wins", "n", "ungraded", "missing", "same text", "verdict"), [
        (r["round"], r["measure"], r["against"], plain(value_of(r)), r["n"], r["ungraded"], r["missing"],
         r["identical"], with_detectable(r["verdict"], gain_of(r), telling))
        for against in ("previous", "initial") for r in wins(metrics, against)])


def wins(metrics: pl.DataFrame, against: str) -> list[dict[str, Any]]:
    """Rows of win rates, question by question, in the order of the rounds."""
    rows = metrics.filter(kind="win rate", against=against).sort("round")
    return [r for question in QUESTIONS for r in rows.filter(measure=question).to_dicts()]
