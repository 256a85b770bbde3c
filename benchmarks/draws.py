"""What share of chains and steps a change of the constitution touches: ``python benchmarks/draws.py [--json]``.

Measured on synthetic principles and prompt ids, against theory (cai_assets/plan/touches.py) and against the
usual way, one seeded random stream over the principles in file order. A step is touched if the principle it draws is
another, by id or text, or if an earlier step of its chain is touched. No model is used.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import yaml

from cai_assets.constitution.diff import diff
from cai_assets.constitution.draw import critique_key, draw_many
from cai_assets.constitution.load import parse
from cai_assets.constitution.model import Constitution
from cai_assets.plan.touches import draws_touched, share_of_chains, share_of_steps

Drawn = list[tuple[str, str | None, str | None]]
Items = list[dict[str, str]]


def items(principles: int) -> Items:
    texts = {"critique": "Does the answer break rule {}?", "revision": "Rewrite it so that it keeps rule {}."}
    return [{"id": f"principle-{i:03}", **{k: t.format(i) for k, t in texts.items()}} for i in range(principles)]


def constitution(of: Items, comment: str = "") -> Constitution:
    """Through the file's text and the loader, so that a comment or another order is what a person would write."""
    text: str = yaml.safe_dump({"version": "v1", "principles": of}, sort_keys=False, default_style='"')
    return parse(comment + text.replace("\n- ", f"\n{comment}- "), name="benchmark")


def changes(before: Items) -> dict[str, Constitution]:
    middle = len(before) // 2
    edited, renamed = [dict(p) for p in before], [dict(p) for p in before]
    edited[middle]["critique"] += " Say where."
    renamed[middle]["name"] = "Another name"
    return {
        "edit 1": constitution(edited),
        "append 1": constitution(items(len(before) + 1)),
        "remove 1": constitution(before[:middle] + before[middle + 1 :]),
        "reorder": constitution(random.Random(1).sample(before, len(before))),
        "comment": constitution(before, comment="# A comment.\n"),
        "rename": constitution(renamed),
    }


def rendezvous(c: Constitution, prompts: int, rounds: int) -> Drawn:
    keys = (critique_key(f"prompt-{i}", k) for i in range(prompts) for k in range(1, rounds + 1))
    return [(p.id, p.critique, p.revision) for p in draw_many(c.taking_part("critique"), keys)]


def stream(c: Constitution, prompts: int, rounds: int) -> Drawn:
    choose = random.Random(0).choice
    return [(p.id, p.critique, p.revision) for p in (choose(c.principles) for _ in range(prompts * rounds))]


def touched(before: Drawn, after: Drawn, rounds: int) -> tuple[float, float]:
    """Shares of chains and of steps, in per cent."""
    differ = [a != b for a, b in zip(before, after, strict=True)]
    chains = [differ[i : i + rounds] for i in range(0, len(differ), rounds)]
    steps = sum(rounds - chain.index(True) for chain in chains if any(chain))
    return 100 * sum(map(any, chains)) / len(chains), 100 * steps / len(differ)


def theory(before: Constitution, after: Constitution, rounds: int) -> tuple[float, float]:
    """The closed formulas, in per cent."""
    old, new = ({p.id: p.weight for p in c.taking_part("critique")} for c in (before, after))
    edited = {c.id for c in diff(before, after).changes if c.kind == "edited"}
    t = draws_touched(old, new, edited)
    return 100 * share_of_chains(t, rounds), 100 * share_of_steps(t, rounds)


class Row(NamedTuple):
    """Per cent touched; ``difference`` in points."""

    change: str
    of: str
    measured: float
    theory: float
    difference: float
    random_stream: float


def measure(prompts: int, rounds: int, principles: int) -> list[Row]:
    before = constitution(items(principles))
    ways: Sequence[Callable[[Constitution, int, int], Drawn]] = (rendezvous, stream)
    drawn = [way(before, prompts, rounds) for way in ways]
    rows: list[Row] = []
    for name, after in changes(items(principles)).items():
        ours, usual = (touched(d, way(after, prompts, rounds), rounds) for d, way in zip(drawn, ways, strict=True))
        expected = theory(before, after, rounds)
        rows += [Row(name, of, ours[i], expected[i], abs(ours[i] - expected[i]), usual[i])
                 for i, of in enumerate(("chains", "steps"))]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=20_000)
    parser.add_argument("--smallest", dest="prompts", action="store_const", const=500, help="as the tests run it")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--principles", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    rows = measure(a.prompts, a.rounds, a.principles)
    if a.json:
        print(json.dumps({"prompts": a.prompts, "rounds": a.rounds, "principles": a.principles,
                          "rows": [r._asdict() for r in rows]}))
        return
    print(f"{a.prompts} chains of {a.rounds} rounds, {a.principles} principles; per cent touched, difference in points")
    print(f"{'change':10}{'of':8}{'measured':>10}{'theory':>10}{'difference':>12}{'random stream':>15}")
    for row in rows:
        print("{change:10}{of:8}{measured:10.2f}{theory:10.2f}{difference:12.2f}{random_stream:15.2f}".format(**row._asdict()))


if __name__ == "__main__":
    main()
