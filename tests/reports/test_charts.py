"""Charts: always small enough to show inline, well-formed, and true to the numbers."""

import math
import random
import re
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.evals.statistics import Estimate
from cai_assets.reports.charts import HEIGHT, WIDTH, interval_bar, sparkline

VALUES = st.lists(st.none() | st.floats(), max_size=300)


def svg(markdown):
    """The drawing in a chart, parsed; the markdown must start with one image whose address needs no escaping."""
    found = re.fullmatch(r"!\[chart\]\(data:image/svg\+xml,([^()\s<>\"#]+)\).*", markdown, re.DOTALL)
    assert found, markdown
    return ElementTree.fromstring(unquote(found.group(1)))


def path(markdown):
    return next(e.get("d") for e in svg(markdown).iter() if e.tag.endswith("path"))


@given(VALUES, st.text(max_size=80))
def test_any_curve_stays_small_and_inside_its_frame(values, label):
    markdown = sparkline(values, label=label)
    assert len(markdown) < 900
    if any(v is not None and math.isfinite(v) for v in values):
        for x, y in re.findall(r"[ML](\d+),(\d+)", path(markdown)):
            assert 0 <= int(x) <= WIDTH
            assert 0 <= int(y) <= HEIGHT


@pytest.mark.parametrize("n", [1, 2, 50, 5_000])
def test_a_noisy_curve_of_any_length_is_drawn(n):
    rng = random.Random(n)
    markdown = sparkline([rng.random() * 1e-7 for _ in range(n)], label="a/very_long-name " * 9)
    assert len(markdown) < 900
    assert path(markdown)
    assert f"{n} points" in markdown


def test_the_numbers_are_said_in_words():
    assert sparkline([3.0, 1.0, 2.0], label="loss").endswith("loss: 3 → 2 (lowest 1, highest 3, 3 points)")


def test_a_spike_survives_thinning():
    markdown = sparkline([0.0] * 2500 + [1.0] + [0.0] * 2500)
    heights = {int(y) for _, y in re.findall(r"[ML](\d+),(\d+)", path(markdown))}
    assert heights == {2, HEIGHT - 2}


def test_missing_values_are_gaps_and_counted():
    markdown = sparkline([1.0, 2.0, None, math.nan, 3.0, 4.0])
    assert path(markdown).count("M") == 2
    assert markdown.endswith("6 points), 2 missing")
    assert path(sparkline([1.0, 2.0, 3.0, 4.0])).count("M") == 1


def test_no_values_draw_nothing():
    assert sparkline([], label="loss") == "loss: no values"
    assert sparkline([None, math.nan]) == "no values"


def test_interval_bars_show_names_and_stay_small():
    one = {"win rate": Estimate(0.7, 10, 0.4, 0.9), "unknown": Estimate(None, 0)}
    markdown = interval_bar(one)
    assert "win rate" in "".join(svg(markdown).itertext())
    assert path(markdown).startswith("M133,6H187")
    assert markdown.endswith("and 1 more")
    many = {f"metric <{i}> & \u202e more": Estimate(0.5, 9, 0.1, 0.9) for i in range(40)}
    assert len(interval_bar(many)) < 900
    assert "more" in interval_bar(many)
    assert interval_bar({}) == "no estimates"


def test_interval_bars_keep_inside_the_range():
    xs = [int(x) for x in re.findall(r"[MH](\d+)", path(interval_bar({"kl": Estimate(7.0, 3, -4.0, 99.0)}, high=10)))]
    assert min(xs) >= 90
    assert max(xs) <= WIDTH
