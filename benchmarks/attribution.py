"""How large an effect of one principle must be, on how many requests, for leave-one-out attribution to name it.

    python benchmarks/attribution.py [--studies 200]

Made-up policies of known attack success: requests differ in how often they succeed (Beta(2, 3), mean 0.4), each is
asked in 4 wordings; of 16 principles one has an effect. Prints the share of studies that name it, and the share that
name any of the other 15. No model runs. Training noise is not in it: it would have to be added to both.
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product

import numpy as np
import polars as pl

from cai_assets.evals import statistics
from cai_assets.evals.attribution import ALL, MEASURES, SEEN, Compared, Measured, effects
from cai_assets.evals.suites.measures import SUITE_ROWS

PRINCIPLES, WORDINGS = 16, 4
NOTHING = pl.DataFrame(schema={"policy": pl.String, "question": pl.String, "principle_id": pl.String,
                               "prompt_id": pl.String, "verdict": pl.String, "adherence_verdict": pl.String})


def measured(rng: np.random.Generator, rates: np.ndarray) -> Measured:
    """One version's answers."""
    rows = [{"policy": "rl_policy", "suite": "made-up", "kind": "jailbreak", "mode": "wrapped", "behaviour": f"b{i}",
             "case_id": f"b{i}~{w}", "compliance": float(rng.random() < rate)}
            for i, rate in enumerate(rates) for w in range(WORDINGS)]
    return Measured(pl.DataFrame(rows, schema=SUITE_ROWS), NOTHING)


def study(requests: int, effect: float, seed: int) -> tuple[bool, bool]:
    """Whether the principle with the effect was named, and whether another one was."""
    statistics.RESAMPLES = 1999
    rng = np.random.default_rng(seed)
    hard = rng.beta(2, 3, requests)
    derived = [Compared("without", f"p{i}", [measured(rng, np.clip(hard + (effect if i == 0 else 0), 0, 1))])
               for i in range(PRINCIPLES)]
    table = effects([measured(rng, hard)], derived, enough=20, policies=["rl_policy"],
                    measures=[MEASURES[0]._replace(each_suite=False)])
    named = [verdict in SEEN for verdict in table.filter(suite=ALL)["verdict"]]
    return named[0], any(named[1:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--smallest", action="store_true", help="as the tests run it: two studies of one size")
    arguments = parser.parse_args()
    studies = 2 if arguments.smallest else arguments.studies
    sizes = ((20,), (0.3,)) if arguments.smallest else ((20, 50, 100, 200), (0.05, 0.1, 0.2, 0.3))
    print("| requests | effect | names it | names another |\n|---|---|---|---|")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:  # a fork of Polars hangs
        for requests, effect in product(*sizes):
            named = list(pool.map(partial(study, requests, effect), range(studies)))
            print(f"| {requests} | {effect} | {np.mean([a for a, _ in named]):.2f} | "
                  f"{np.mean([b for _, b in named]):.3f} |", flush=True)


if __name__ == "__main__":
    main()
