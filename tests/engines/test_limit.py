"""How many calls at once: servers of known limits, simulated call by call, with latencies of a long tail."""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
from collections.abc import Callable

import pytest

from cai_assets.engines.served.limit import MOST, START, Found, Given

Latency = Callable[[int, random.Random], float | None]  # of a call with so many at once; None: refused for lack of room


def batches(places: int, seconds: float = 1.0) -> Latency:
    """As vLLM: as fast for ``places`` calls as for one; with more each answer comes later, and none sooner."""
    return lambda flight, rng: seconds * max(1.0, flight / places) * rng.lognormvariate(-0.125, 0.5)


def refuses(above: int) -> Latency:
    """As an API with a limit of its own."""
    return lambda flight, rng: None if flight > above else rng.lognormvariate(-0.5, 1.0)


def served(latency: Latency, calls: int, *, seed: int = 0, supply: int = 10**9) -> tuple[list[int], list[float], int]:
    """The limit and the time at every reply, and how many calls were refused. ``supply``: the most there is to send."""
    now, rng, flight, tie = 0.0, random.Random(seed), list[tuple[float, int, bool]](), itertools.count()
    limit, limits, times, refused = Found(lambda: now), list[int](), list[float](), 0
    while len(times) < calls:
        while len(flight) < min(limit.now, supply):
            took = latency(len(flight) + 1, rng)
            heapq.heappush(flight, (now + (0.01 if took is None else took), next(tie), took is None))
        now, _, was_refused = heapq.heappop(flight)
        if was_refused:
            refused += 1
            limit.refused(len(flight) + 1)
        else:
            limit.answered(len(flight) + 1)
            times.append(now)
            limits.append(limit.now)
    return limits, times, refused


@pytest.mark.parametrize("places", [8, 64, 300])
@pytest.mark.parametrize("seed", range(3))
def test_it_finds_as_many_as_make_a_server_faster(places: int, seed: int) -> None:
    limits, times, _ = served(batches(places), 20_000, seed=seed)
    late = statistics.median(limits[10_000:])
    assert places / 2 <= late <= max(4 * places, START * 1.5)
    rate = 10_000 / (times[-1] - times[9_999])
    assert rate > 0.75 * places / 1.0, "less than three quarters of what the server can do"


def test_where_more_always_helps_it_grows_to_the_most() -> None:
    limits, _, _ = served(lambda _, rng: rng.lognormvariate(-0.5, 1.0), 40_000)
    assert limits[-1] > MOST / 2


@pytest.mark.parametrize("above", [4, 20, 100])
def test_a_server_that_refuses_more_is_hardly_asked_for_more(above: int) -> None:
    limits, _, refused = served(refuses(above), 20_000)
    assert above / 3 <= statistics.median(limits[10_000:]) <= above
    assert refused < 20_000 / 50


def test_with_little_to_send_nothing_is_concluded() -> None:
    limits, _, _ = served(batches(8), 5_000, supply=5)
    assert set(limits) == {START}


def test_the_refusals_of_one_moment_cost_once() -> None:
    limit = Found(lambda: 0.0)
    for flight in range(START, 0, -1):
        limit.refused(flight)
    assert limit.now == int(START * 2 / 3)
    limit.refused(limit.now)
    assert limit.now == int(int(START * 2 / 3) * 2 / 3)


def test_a_number_that_is_given_stays() -> None:
    limit = Given(7)
    limit.refused(7)
    limit.answered(7)
    assert limit.now == 7
