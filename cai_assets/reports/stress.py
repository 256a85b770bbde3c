"""The stress test in words, tables, JSON, and as one HTML page. What it advises is for a person to weigh."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from cai_assets.evals.conflicts import AGREE, NOTHING_SEEN, OPPOSED, Clarity, Conflicts, Pair
from cai_assets.evals.power import POWER
from cai_assets.evals.statistics import FEW, Estimate
from cai_assets.reports.escape import shorten
from cai_assets.reports.html.page import Block, Group, Passage, Section, Source, Table, Text, Told, page
from cai_assets.reports.text.numbers import plain, share
from cai_assets.reports.text.tables import table

UNCLEAR = 0.25  # a principle whose interval is above this contradicts itself often enough to be reworded
SHOWN = 10  # pairs whose examples are shown
LONGEST = 1500
PAIR_COLUMNS = ("principles", "opposed", "prompts", "undecided", "ungraded", "p (Holm)", "verdict")
CLARITY_COLUMNS = ("principle", "orders contradict", "flips in other words", "flips by the second judge")
HOW = ("Two responses to one prompt are compared, each principle being asked alone. Opposed is the share of "
       "comparisons in which the two prefer different responses, over prompts, of those that both decide: one half "
       "where they have nothing to do with each other. p-values are of the sign test over prompts, adjusted for the "
       "number of pairs. Detectable: the smallest true share of opposed prompts that so many find in "
       f"{POWER:.0%} of trials; as far below one half, they would be seen to agree.")
SIDES = ("Counts of responses. Where nearly all keep the same one of two principles there is little to compare: the "
         "model has taken a side.")
FLIPS = ("Shares of answers on which a principle contradicts itself: between its two orders; and, where both readings "
         "have a verdict, in other words or by another judge. A weak labeler contradicts itself on clear principles, "
         "too.")


def sentences(found: Conflicts) -> list[str]:
    """What was found, and what a person might do about it."""
    if not found.pairs:
        return ["No pair of principles was compared."]
    verdicts = Counter(pair.verdict for pair in found.pairs)
    lines = [f"{len(found.pairs)} pairs of principles: {verdicts[OPPOSED]} opposed, {verdicts[AGREE]} agree, "
             f"{len(found.pairs) - verdicts[OPPOSED] - verdicts[AGREE] - verdicts[FEW]} without a conflict seen, "
             f"{verdicts[FEW]} with {FEW}."]
    unseen = [pair.detectable for pair in found.pairs if pair.verdict == NOTHING_SEEN]
    if unseen:
        most = None if None in unseen else max(size for size in unseen if size is not None)
        lines[0] += (" Among so many pairs so few prompts see none: raise stress.prompts_per_pair." if most is None else
                     f" Of each pair without one the prompts would have found opposed verdicts in {most:.0%} or more.")
    lines += [_advice(pair) for pair in found.opposed]
    lines += [line for clarity in found.principles if (line := _unclear(clarity))]
    if verdicts[FEW]:
        few = [pair.opposed.n for pair in found.pairs if pair.verdict == FEW]
        lines.append(f"Of {verdicts[FEW]} pairs only {min(few)} to {max(few)} prompts were decided: raise "
                     "stress.prompts_per_pair.")
    return lines


def matrix(found: Conflicts) -> str:
    """Every pair as a table of Markdown."""
    return table(PAIR_COLUMNS, pair_rows(found))


def clarity_table(found: Conflicts) -> str:
    """Every principle as a table of Markdown."""
    return table(CLARITY_COLUMNS, clarity_rows(found))


def pair_rows(found: Conflicts) -> list[tuple[object, ...]]:
    """By strength: opposed pairs first."""
    order = sorted(found.pairs, key=lambda p: (p.verdict != OPPOSED, -(p.opposed.value or 0), p.first, p.second))
    return [(f"{p.first} × {p.second}", plain(p.opposed), f"{p.opposed.n} of {p.prompts}", p.undecided, p.ungraded,
             "–" if p.p_holm is None else f"{p.p_holm:.2g}", _verdict(p)) for p in order]


def _verdict(pair: Pair) -> str:
    """With what it could have found, where it claims nothing."""
    if pair.verdict not in {FEW, NOTHING_SEEN}:
        return pair.verdict
    few = " with enough prompts" if pair.verdict == FEW else ""
    return f"{pair.verdict} (detectable{few}: " + (
        "nothing" if pair.detectable is None else f"{pair.detectable:.0%} opposed") + ")"


def clarity_rows(found: Conflicts) -> list[tuple[str, ...]]:
    """Those that contradict themselves most between their orders first."""
    order = sorted(found.principles, key=lambda c: (-(c.orders.value or 0), c.principle))
    return [(c.principle, *(_share(e) for e in (c.orders, c.other_words, c.judge))) for c in order]


def numbers(found: Conflicts) -> dict[str, int]:
    """Counts of pairs by verdict."""
    verdicts = Counter(pair.verdict for pair in found.pairs)
    return {"pairs_compared": len(found.pairs), "pairs_opposed": verdicts[OPPOSED], "pairs_agree": verdicts[AGREE],
            "pairs_too_few": verdicts[FEW]}


def as_dict(found: Conflicts) -> dict[str, Any]:
    """Plain JSON."""
    return {**numbers(found), "says": sentences(found), **asdict(found)}


def blocks(found: Conflicts, source: Source) -> Iterator[Block]:
    """What was found, the matrix, its worst examples, and each principle's clarity."""
    for line in sentences(found):
        yield Text(line)
    if not found.pairs:
        return
    yield Table("Pairs of principles", PAIR_COLUMNS, [(*row[:-1], Told(str(row[-1]))) for row in pair_rows(found)],
                note=HOW, source=source)
    names = sorted({name for p in found.pairs for name in (p.first, p.second)})
    by_pair = {frozenset((p.first, p.second)): p for p in found.pairs}
    yield Table("Share of opposed comparisons, as a matrix", ("", *names), [
        (a, *(_cell(by_pair.get(frozenset((a, b)))) if a != b else "" for b in names)) for a in names],
        note="* opposed after the adjustment for the number of pairs; ? too few to tell.", source=source)
    yield Table("By which principles responses are good ones", ("principles", "both", "only the first",
                "only the second", "neither", "unclear"), [
        (f"{p.first} × {p.second}", *(p.answers.get(k, 0) for k in ("both", "first", "second", "neither", "unclear")))
        for p in found.pairs], note=SIDES, source=source)
    for pair in found.opposed[:SHOWN]:
        yield Group(f"{pair.first} × {pair.second}: where they are most opposed", list(_examples(pair)), folded=True)
    yield Table("How clear each principle is", CLARITY_COLUMNS, clarity_rows(found), note=FLIPS, source=source)


def render(version: str, found: Conflicts, told: Sequence[str], source: Source) -> str:
    """The page. ``told``: what was left out."""
    sections = [Section("Principles that contradict each other", list(blocks(found, source))),
                Section("Left out", [Text(line) for line in told]),
                Section("How to reproduce", [Text(source.command, code=True)])]
    return page(f"Stress test of {version}", sections, summary=sentences(found)[:1], footer=source.rests_on)


def _advice(pair: Pair) -> str:
    return (f"{pair.first} and {pair.second} contradict each other: they prefer different responses in "
            f"{share(pair.opposed)} prompts that both decide. Say which comes first (a priority), narrow or split one "
            "of them, or add a principle for such requests.")


def _unclear(clarity: Clarity) -> str:
    kinds = {"its two orders": clarity.orders, "other words": clarity.other_words, "a second judge": clarity.judge}
    often = [f"{name} in {share(e)}" for name, e in kinds.items() if e.low is not None and e.low > UNCLEAR]
    turns = ", with ".join(often)
    return f"{clarity.principle} is unclear to the labeler: its verdict turns with {turns} prompts." if often else ""


def _share(e: Estimate) -> str:
    return "–" if e.value is None else share(e)


def _cell(pair: Pair | None) -> str:
    if pair is None or pair.opposed.value is None:
        return "–"
    mark = "*" if pair.verdict == OPPOSED else "?" if pair.verdict == FEW else ""
    return f"{pair.opposed.value:.0%}{mark}"


def _examples(pair: Pair) -> Iterator[Block]:
    for e in pair.examples:
        yield Passage("Prompt", shorten(e.prompt, LONGEST))
        yield Passage(f"Preferred by {pair.first}", shorten(e.kept_first, LONGEST),
                      note=f"the less sure of the two puts them {e.apart:.2f} apart")
        yield Passage(f"Preferred by {pair.second}", shorten(e.kept_second, LONGEST))
