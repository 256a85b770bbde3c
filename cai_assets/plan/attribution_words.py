"""What leaving out principles would cost, in words: for the terminal and for the studio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cai_assets.plan.attribution import Cost, Planned
from cai_assets.settings import Settings

HEADS = ("version", "chains", "steps", "chain rows", "downstream", "training runs", "seconds")
TITLE = "leaving out one principle at a time: measured share (theory), rows, training runs, seconds"
NEW_BELOW = {
    "policy": "Response pairs are sampled from the SL policy (pairs.source=policy, as in the paper): if any chain "
              "changes, so does the SL policy, and every pair, label, reward, and RL step downstream is recomputed. "
              "The chain rows stay as few as shown; for fewer rows downstream, set pairs.source=generator or revision.",
    "generator": "Response pairs come from the generator (pairs.source=generator): all of them are reused, and only "
                 "the labels that drew the principle are new. Policies are still retrained and remeasured.",
    "revision": "Response pairs are first responses against revisions (pairs.source=revision): only the pairs of "
                "changed chains and the labels that drew the principle are new. Policies are still retrained and "
                "remeasured.",
}


def rows(planned: Sequence[Planned]) -> Iterator[tuple[str, ...]]:
    """A row of HEADS for each derived version."""
    for p in planned:
        kept = f" (kept as the only one for {' and '.join(p.derived.kept)})" if p.derived.kept else ""
        yield (p.derived.label + kept, f"{p.share.chains:.1%} ({p.theory.chains:.1%})",
               f"{p.share.steps:.1%} ({p.theory.steps:.1%})", str(p.cost.chain_rows), str(p.cost.later_rows),
               str(p.cost.trainings), f"{p.cost.seconds:.0f}")


def states(planned: Sequence[Planned]) -> Iterator[str]:
    """What each lacks."""
    return (f"{p.derived.label}: {p.why or 'already measured'}" for p in planned)


def sums(planned: Sequence[Planned], settings: Settings) -> Iterator[str]:
    """All of them together, and why so much downstream is new."""
    costs = [p.cost for p in planned]
    money = [c.cost_usd for c in costs if c.cost_usd is not None]
    unknown = tuple(dict.fromkeys(asset for c in costs for asset in c.unknown))
    yield (f"At most {sum(c.chain_rows for c in costs)} chain rows, {sum(c.later_rows for c in costs)} rows "
           f"downstream, {sum(c.trainings for c in costs)} training runs, "
           f"{about(sum(c.seconds for c in costs), unknown)}"
           f"{f', ${sum(money):.2f}' if money else ''}.")
    if any(p.why for p in planned):
        yield NEW_BELOW[settings.pairs.source]


def whole(version: str, why: str, needed: Cost) -> str:
    """That the whole version comes first, and what it lacks."""
    return (f"The whole version comes first; it is {why}. At most {needed.chain_rows + needed.later_rows} rows and "
            f"{needed.trainings} training runs, {about(needed.seconds, needed.unknown)}. 'cai plan {version}' shows "
            "the plan by asset. The cost of leaving out a principle can be planned after that.")


def about(seconds: float, unknown: Sequence[str]) -> str:
    lacks = f"; no rate yet for {', '.join(unknown)}" if unknown else ""
    return f"about {seconds:.0f} s at the rates measured in this store{lacks}"
