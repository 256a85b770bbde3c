"""Effects in words: what is said of each verdict, and what is not said."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest

from cai_assets.evals.attribution import EFFECTS
from cai_assets.evals.statistics import Telling
from cai_assets.plan.attribution import Share
from cai_assets.reports.attribution.gather import Attribution, Entry, State
from cai_assets.reports.attribution.page import render
from cai_assets.reports.attribution.words import (
    CAVEAT,
    HEADS,
    amount,
    markdown,
    rows,
    said,
    sentences,
    short_table,
)
from cai_assets.reports.html.page import Told

VERSION = "mild-v1-0123abcd"
TELLING = Telling(0.95, 20)


def entry(principle: str | None = "guard", kind: Any = "without", seed: int = 0, state: State = "measured",
          why: str = "", kept: tuple[str, ...] = ()) -> Entry:
    return Entry(kind, principle, seed, f"mild-{kind}-{principle}-v1-89abcdef", state, why, kept, Share(0.36, 0.27))


def effect(delta: float, low: float, high: float, verdict: str, principle: str | None = "guard", **other: Any) -> dict[
        str, Any]:
    return {"kind": "without", "principle": principle, "seed": 0, "seeds": 1, "policy": "rl_policy",
            "measure": "attack_success", "suite": "all", "better": "lower", "reference": 0.3, "value": 0.3 + delta,
            "delta": delta, "low": low, "high": high, "n": 40, "unpaired": 0, "p": 0.001, "p_holm": 0.004,
            "verdict": verdict, "beyond_again": None, "tests": 4, **other}


def attribution(entries: list[Entry], effects: list[dict[str, Any]]) -> Attribution:
    effects = [{name: x[name] for name in EFFECTS} for x in effects]
    return Attribution(VERSION, tuple(entries), pl.DataFrame(effects, schema=EFFECTS), 20, 0.95, "policy", ())


RISE = effect(0.12, 0.03, 0.21, "worse")


@pytest.mark.parametrize(("found", "text"), [
    (RISE, "Without guard attack success rises by 0.12 [0.03, 0.21], from 0.30 to 0.42 (n = 40)."),
    (effect(-0.12, -0.21, -0.03, "better"),
     "Without guard attack success falls by 0.12 [0.03, 0.21], from 0.30 to 0.18 (n = 40)."),
    (effect(0.02, -0.05, 0.08, "no difference seen"),
     "Without guard attack success shows no evidence of a difference: +0.02 [-0.05, +0.08], from 0.30 to 0.32 "
     "(n = 40); detectable: 0.11."),
    (effect(0.2, -0.5, 0.8, "too few to tell", n=8),
     "Without guard: too few requests to tell (8 of at least 20); attack success went from 0.30 to 0.50 (n = 8); "
     "detectable with 20: 0.76."),
    ({**RISE, "beyond_again": False},
     "Without guard attack success rises by 0.12 [0.03, 0.21], from 0.30 to 0.42 (n = 40), but rebuilding the "
     "whole version moved it as far."),
])
def test_an_effect_in_a_sentence(found: dict[str, Any], text: str) -> None:
    assert said(entry(), found, TELLING) == text


def test_what_was_not_measured_says_what_it_lacks() -> None:
    assert said(entry(state="registered", why="made with seed 1 instead of 0"), {}, TELLING) == (
        "Without guard: not measured. Registered: made with seed 1 instead of 0.")
    alone = said(entry(kind="only"), effect(-0.1, -0.2, -0.05, "better", kind="only"), TELLING)
    assert alone.startswith("guard alone, against none: attack success falls by 0.10")


def test_the_strongest_effect_comes_first_and_the_rest_is_counted() -> None:
    found = attribution(
        [entry("small"), entry("large"), entry("none"), entry("few"), entry("later", state="not registered"),
         entry("judge", state="cannot be made", why="judges alone"), entry(None, "again", 1)],
        [effect(0.1, 0.02, 0.2, "worse", "small"), effect(-0.4, -0.5, -0.3, "better", "large"),
         effect(0.0, -0.1, 0.1, "no difference seen", "none"), effect(0.1, -1, 1, "too few to tell", "few"),
         effect(0.05, -0.02, 0.12, "no difference seen", None, kind="again", seed=1)])
    lines = sentences(found)
    assert [line.split(" attack")[0] for line in lines[:2]] == ["Without large", "Without small"]
    assert lines[2:] == [
        "1 of 4 comparisons show no evidence of a difference in attack success (detectable of each: 0.17).",
        "1 of 4 comparisons have too few requests to tell (at least 20).",
        "1 of 6 derived versions are not measured.",
        "Rebuilding the whole version with another seed moved attack success by +0.05 [-0.02, +0.12] (n = 40): "
        "effects no larger than that may be training noise.", CAVEAT]
    assert sentences(attribution([entry()], [RISE]))[1].startswith(
        "The whole version was not rebuilt with another seed (--null)")


def test_tables_have_a_line_for_every_derived_version() -> None:
    found = attribution([entry(kept=("preference",)), entry("later", state="not registered")], [RISE])
    (first, second) = [cells for _, cells in rows(found)]
    assert len(first) == len(second) == len(HEADS)
    assert first[0] == "Without guard (kept for preference, as the only one)"
    assert first[1:5] == ["0.30 → 0.42 (n=40)", "+0.12 [+0.03, +0.21]", "0.004", Told("worse")]
    assert second[1:5] == ["–"] * 4
    assert (first[-2:], second[-1]) == (["36%", "measured"], "not registered")
    assert markdown(found).count("| Without guard ") == 2  # one policy was not measured, and says so
    assert "| later | – | not registered |" in short_table(found)
    many = attribution([entry(f"principle-number-{i}", state="not registered") for i in range(60)], [])
    assert len(short_table(many)) < 1000
    assert "More in" in short_table(many)


def test_a_difference_of_no_size_has_a_sign_and_one_without_interval_none() -> None:
    assert amount(effect(0.0, -0.1, 0.1, "")) == "+0.00 [-0.10, +0.10]"
    assert amount({"delta": -0.25, "low": None, "high": None}) == "-0.25"


class Page(HTMLParser):
    """Headings, and whether anything from outside is asked for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.outside: list[str] = []
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = tag
        self.outside += [v for k, v in attrs if k in {"src", "href"} and v and not v.startswith(("#", "data:"))]

    def handle_data(self, data: str) -> None:
        if self._in in {"h1", "h2"} and data.strip():
            self.headings.append(data.strip())


def test_the_page_shows_effects_and_reaches_nothing_outside() -> None:
    found = attribution(
        [entry("<b>bold</b>"), entry(None, "again", 1)],
        [effect(0.12, 0.03, 0.21, "worse", "<b>bold</b>"), effect(0.12, 0.03, 0.21, "worse", "<b>bold</b>", suite="x"),
         effect(0.01, -0.1, 0.1, "no difference seen", None, kind="again", seed=1)])
    text = render(found)
    page = Page(text)
    assert page.outside == []
    assert "<b>bold" not in text
    assert f"What each principle of {VERSION} does" in page.headings
    assert {"Attack success", "All measures, RL policy", "By suite", "The derived versions"} <= set(page.headings)
    empty = render(attribution([entry(state="not registered")], []))
    assert "No derived version has been measured yet" in empty
    assert f"cai attribute {VERSION}" in empty
