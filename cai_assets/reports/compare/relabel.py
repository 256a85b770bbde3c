"""One version's pairs, labeled by the other's constitution: which labels an edit flips, whatever its policies say.

Two versions with different SL policies have no pair in common, so their labels cannot be compared. The pairs of the
first are the same texts for both constitutions, and a pair draws the same principle by its id: only principles that
changed are asked again, and what was asked before is read from the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import polars as pl

from cai_assets.assets import LABELS
from cai_assets.pipeline.project import Project
from cai_assets.plan.dry import DryCompleter
from cai_assets.reports.compare.sides import Side
from cai_assets.settings import Labels
from cai_assets.steps.complete import Completer, Log
from cai_assets.steps.label import label_pairs


class Relabeling(NamedTuple):
    """``missing``: calls that the labels still cost. ``why_not``: why these pairs cannot be labeled here; '' if they
    can. ``label``: then makes the table, as of ``preference_pairs``."""

    missing: int
    why_not: str
    label: Callable[[], pl.DataFrame]


def relabeling(project: Project, before: Side, after: Side, log: Log = lambda _: None) -> Relabeling | None:
    """The pairs of ``before`` by the constitution of ``after``, asked as ``before`` was labeled; None without labels.
    Looks rows up and asks nobody."""
    pairs, labellers = before.table("response_pairs"), before.table(LABELS, "labeller")
    if pairs is None or labellers is None:
        return None
    settings = Labels.model_validate(before.records[LABELS].settings["labels"])
    engine = project.engines.open(project.settings.models.role("labeller"))
    seed = before.records[LABELS].details.get("seed", project.settings.seed)
    complete = Completer(engine, project.store, seed=seed, log=log)
    other = set(labellers["labeller"].drop_nulls()) - {engine.identity.weights}
    why_not = (f"the labels of {before.name} are of another labeler than models.labeller is now" if other else
               f"{after.name} has no principle with a 'preference' request"
               if not after.constitution.taking_part("preference") else "")
    if why_not:
        return Relabeling(0, why_not, lambda: labellers)
    dry = DryCompleter(engine.identity, project.store, seed=seed)
    label_pairs(pairs, after.constitution, complete=dry, settings=settings)
    return Relabeling(len(dry.missing), "", lambda: label_pairs(pairs, after.constitution, complete=complete,
                                                                settings=settings))
