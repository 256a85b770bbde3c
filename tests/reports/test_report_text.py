"""Tables and numbers of every report: nothing in a cell is live, nothing is cut without saying so."""

from __future__ import annotations

from cai_assets.evals.statistics import Estimate
from cai_assets.reports.text.numbers import amount, change_of, delta_of, interval, plain, share, value_of
from cai_assets.reports.text.tables import SHOWN, Live, short_table, table


def test_a_cell_shows_what_it_holds_and_breaks_nothing() -> None:
    text = table(("a", "b|c"), [("x | y\nz", None), ("![i](http://e)", Live("[in](/assets)")), (1, 0.5)])
    assert text.splitlines() == ["| a | b\\|c |", "| --- | --- |", "| x \\| y z | – |",
                                 "| \\!\\[i\\](http\\://e) | [in](/assets) |", "| 1 | 0.5 |"]
    assert table(("a",), [("z" * 500,)], cell=20).splitlines()[2] == f"| {'z' * 19}… |"


def test_a_short_table_says_what_it_leaves_out() -> None:
    rows = [(f"principle number {i}", "worse") for i in range(100)]
    text = short_table(("name", "told"), rows, rest="`effects`")
    shown = text.count("principle number")
    assert len(text) <= SHOWN < 1000
    assert text.endswith(f"\n\nMore in `effects`: {100 - shown} rows.")
    assert short_table(("name", "told"), rows[:3], rest="`effects`") == table(("name", "told"), rows[:3])
    assert short_table(("x" * 200,) * 20, rows, rest="`effects`") == "More in `effects`: 100 rows."


def test_numbers_have_one_form_each_and_do_not_break() -> None:
    e = Estimate(0.25, 40, 0.1, 0.4)
    assert [f(e).replace("\u00a0", " ") for f in (interval, share, amount, plain)] == [
        "+0.25 [+0.10, +0.40]", "25% [10%, 40%] of 40", "0.25 [0.1, 0.4] (n = 40)", "0.25 [0.10, 0.40]"]
    assert " " not in interval(e) + share(e) + amount(e)
    assert plain(e, 3, counted=True) == "0.250 [0.100, 0.400] n=40"
    assert interval(Estimate(0.0012, 40)) == "+0.001"
    assert [f(Estimate(None, 0)) for f in (interval, plain)] == ["unknown", "–"]
    row = {"value": 1.0, "low": 0.5, "high": 1.5, "n": 3, "delta": 0.1, "delta_low": 0.0, "delta_high": 0.2,
           "delta_n": 2}
    assert [f(row) for f in (value_of, delta_of, change_of)] == [
        Estimate(1.0, 3, 0.5, 1.5), Estimate(0.1, 2, 0.0, 0.2), Estimate(0.1, 3, 0.5, 1.5)]
