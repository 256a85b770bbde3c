"""The refusal rule against people: how often it finds what they call a refusal, and how often they agree with it.

Reads completions that people labeled, in XSTest's format (Röttger et al. 2024): ``completion`` and ``final_label``, or
two annotations that agree. A full or a partial refusal counts as a refusal. Guarantee: every row is counted, or set
aside with its reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cai_assets.evals.refusal import RULE, is_refusal
from cai_assets.evals.statistics import Estimate, proportion
from cai_assets.reading.faults import RowFault, columns_of, printable, type_of
from cai_assets.reading.files import Raw, RowReader
from cai_assets.reading.rows import ANSWERS

COMPLIANCE, FULL, PARTIAL = "full compliance", "full refusal", "partial refusal"
FINAL, ANNOTATIONS, OTHERS = ("final_label",), ("annotation_1", "annotation_2"), ("label", "refusal")
BESIDE = {"id", "id_v1", "id_v2", "type", "prompt", "agreement", "note", "model", "focus"}
_SAID = {"compliance": COMPLIANCE, "full compliance": COMPLIANCE, "no": COMPLIANCE, "false": COMPLIANCE,
         "0": COMPLIANCE, "refusal": FULL, "full refusal": FULL, "yes": FULL, "true": FULL, "1": FULL, PARTIAL: PARTIAL}


class Counts(NamedTuple):
    """Completions that both call a refusal, the rule alone, people alone, and neither."""

    both: int
    rule_alone: int
    people_alone: int
    neither: int

    def recall(self, confidence: float = 0.95) -> Estimate:
        """The share of people's refusals that the rule finds."""
        return proportion(self.both, self.both + self.people_alone, confidence)

    def precision(self, confidence: float = 0.95) -> Estimate:
        """The share of the rule's refusals that people call one."""
        return proportion(self.both, self.both + self.rule_alone, confidence)

    def accuracy(self, confidence: float = 0.95) -> Estimate:
        """The share of completions on which they agree."""
        return proportion(self.both + self.neither, sum(self), confidence)


# By rule, on 587 completions of XSTest that each was not written on; docs/experiments.md says how they were taken.
MEASURED = {1: Counts(130, 6, 151, 300), 2: Counts(224, 22, 57, 284)}


@dataclass(frozen=True)
class Measured:
    """``by_label``: what share of each of people's labels the rule calls a refusal. ``set_aside``: rows by reason."""

    counts: Counts
    by_label: Mapping[str, Estimate]
    set_aside: Mapping[str, int]
    first: str = ""  # the place of the first row that was set aside


def how_good(rule: int = RULE) -> str:
    """One sentence to stand beside what rests on a rule's verdicts."""
    if rule not in MEASURED:
        return f"Refusals are found by a text rule (rule {rule}), which has not been measured against people."
    counts = MEASURED[rule]
    recall, precision = (f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}] of {e.n}"
                         for e in (counts.recall(), counts.precision()))
    return (f"Refusals are found by a text rule (rule {rule}), not by a reader: of {sum(counts)} completions that "
            f"people labeled (XSTest), it found {recall} refusals, and was right about {precision} that it named "
            "(docs/measures.md).")


def measure(path: Path, confidence: float = 0.95) -> Measured:
    """The rule on the labeled completions of a file or folder. Raise DataError for one that cannot be read."""
    said: Counter[tuple[str, bool]] = Counter()
    aside: Counter[str] = Counter()
    first = ""
    for raw in RowReader([path], {*ANSWERS, *FINAL, *ANNOTATIONS, *OTHERS, *BESIDE}):
        try:
            completion, label = labeled(raw)
        except RowFault as fault:
            aside[str(fault)] += 1
            first = first or f"{raw.source}:{raw.line}"
        else:
            said[label, is_refusal(completion)] += 1
    counts = Counts(*(sum(n for (label, found), n in said.items() if (label != COMPLIANCE, found) == wanted)
                      for wanted in ((True, True), (False, True), (True, False), (False, False))))
    by_label = {label: proportion(said[label, True], said[label, True] + said[label, False], confidence)
                for label in (FULL, PARTIAL, COMPLIANCE)}
    return Measured(counts, by_label, dict(aside.most_common()), first)


def labeled(raw: Raw) -> tuple[str, str]:
    """A completion and people's label of it. Raise RowFault for a row without one of them."""
    row = raw.value
    if isinstance(row, RowFault):
        raise row
    if not isinstance(row, Mapping):
        raise RowFault(f"expected an object with a completion and a label, found {type_of(row)}")
    completion = next((row[name] for name in ANSWERS if isinstance(row.get(name), str)), None)
    if completion is None:
        raise RowFault(f"no completion: give it as one of {', '.join(ANSWERS)}; {columns_of(row)}")
    return str(completion), _label(row)


def _label(row: Mapping[str, object]) -> str:
    """The first that there is: a final label, annotations, another label."""
    for names in (FINAL, ANNOTATIONS, OTHERS):
        said = {str(row[name]).strip() for name in names if row.get(name) not in (None, "")}
        if len(said) > 1:
            raise RowFault(f"{' and '.join(names)} differ, and there is no {FINAL[0]}")
        if said:
            return _read(said.pop())
    raise RowFault(f"no label: give it as {', '.join((*FINAL, *ANNOTATIONS, *OTHERS))}; {columns_of(row)}")


def _read(said: str) -> str:
    """``2_full_refusal`` and the like, as one of the three labels."""
    word = re.sub(r"^\d_", "", said.casefold()).replace("_", " ")
    if word not in _SAID:
        raise RowFault(f"the label {printable(said)[:40]!r} is none of {', '.join(_SAID)}")
    return _SAID[word]
