"""Lost calls: whether a training may start on what is left.

A call is lost if it got no answer that it would get if it were asked again: its servers were gone, say. One that is
refused for what it is (too long, filtered, ungraded) is no loss, because asking again does not help. What was trained
before is as it is: its own losses were judged then. The check and training apply the same test to the same records, so
a run that skips checks is stopped too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg

from cai_assets.assets import ASSETS, CHECKPOINTS
from cai_assets.pipeline.project import Project
from cai_assets.steps.reasons import reason_line
from cai_assets.store.records import Record, Ref


def judged_losses(project: Project, records: Iterable[Record]) -> tuple[bool, str, dict[str, Any]]:
    """(passed, why, numbers) for records and all that they were made from, up to trained checkpoints."""
    found = {r.ref.id: r for r in _above(project, records)}.values()
    order = list(ASSETS)
    made = sorted(found, key=lambda r: order.index(r.asset))
    lost = {r.asset: lost_calls(r) for r in made if lost_calls(r)}
    beyond = [r for r in made if lost_calls(r) > _accepted(project, r)]
    if not beyond:
        return True, f"{sum(lost.values())} calls were lost, within accept_loss", lost
    said = "; ".join(f"{r.asset}: " + reason_line(lost_calls(r), _calls(r), "calls lost", r.details.get("errors", {}))
                     for r in beyond)
    return False, (f"{said}. Run the same again, which asks for what is missing before anything is trained; or accept "
                   "it: accept_loss, a share of each asset's calls or a number of them"), lost


def refuse_losses(project: Project, inputs: Iterable[Ref]) -> None:
    """Fail before anything is trained on the rest, with the check's own reason."""
    passed, why, _ = judged_losses(project, map(project.records.get, inputs))
    if not passed:
        raise dg.Failure(f"nothing is trained on what is left: {why}", allow_retries=False)


def lost_calls(record: Record) -> int:
    """Calls that failed, and need not fail again."""
    return record.failed - int(record.details.get("refused", 0))


def _above(project: Project, records: Iterable[Record]) -> Iterator[Record]:
    for record in records:
        if record.asset not in CHECKPOINTS:
            yield record
            yield from _above(project, map(project.records.get, record.inputs))


def _accepted(project: Project, record: Record) -> float:
    limit = project.settings.accept_loss
    return limit if limit >= 1 else limit * _calls(record)


def _calls(record: Record) -> int:
    return record.reused + record.generated + record.failed
