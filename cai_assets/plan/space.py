"""What a version would write, against the free space on the data root's disk: said before anything is spent."""

from __future__ import annotations

from collections.abc import Collection

from cai_assets.assets import CHECKPOINTS
from cai_assets.engines.models import ModelError
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import starting_policy
from cai_assets.plan.lines import TRAIN, Line
from cai_assets.plan.plan import Plan, plan_of_run
from cai_assets.store.folders import free, size
from cai_assets.train.footprint import REMEDY, STATES, Footprint, NoRoom, footprint, gb

ROW = 4096  # bytes of a call at most, as a rule: its row, and its place in a table
CALLS = 50  # of one prompt at most, as a rule, over all assets


def surely_trained(project: Project, line: Line) -> bool:
    """Whether a line is a training that will be done: one that is trained unless everything above comes out unchanged
    is, if there is no checkpoint to use again."""
    return line.training == TRAIN or (line.trains and not project.layout.has("checkpoints", line.asset))


def needed(project: Project, plan: Plan, assets: Collection[str] = ()) -> tuple[int, int]:
    """Bytes that a plan writes for certain, and at most; of some assets, or of all."""
    chosen = [line for line in plan.lines if not assets or line.asset in assets]
    certain = [plan.writes[line.asset] for line in chosen if surely_trained(project, line)]
    possible = [plan.writes[line.asset] for line in chosen if line.trains]
    rows = ROW * sum(line.generate_max for line in chosen)
    return _at_once(certain, 1), _at_once(possible, STATES) + rows


def _at_once(writes: Collection[Footprint], states: int) -> int:
    """One training after the other: the states of one are gone when the next begins."""
    return sum(w.final for w in writes) + states * max((w.state for w in writes), default=0)


def said(project: Project, plan: Plan) -> str:
    """What a plan writes and what is free, in one line."""
    (least, most), left = needed(project, plan), _left(project)
    if not most:
        return ""
    line = f"Writes {gb(least)} to {gb(most)} under {project.layout.path()}, where {gb(left)} are free"
    return f"{line}: that does not fit; {REMEDY}" if least > left else line


def refuse_without_room(project: Project, version: str, assets: Collection[str] = ()) -> None:
    """Raise NoRoom if what a version's assets write surely does not fit. Plans only where it might not."""
    left = _left(project)
    if left > _ever(project):
        return
    least, _ = needed(project, plan_of_run(project, version), assets)
    if least > left:
        raise NoRoom(f"{version} writes at least {gb(least)} under {project.layout.path()}, and {gb(left)} are free "
                     f"there: {REMEDY}")


def _left(project: Project) -> int:
    """Bytes free on the data root's disk, and of unfinished trainings, which go on from what they have written."""
    work = project.layout.folder("work")
    return free(work) + size(work)


def _ever(project: Project) -> int:
    """More than any version writes."""
    settings = project.settings
    prompts = settings.prompts.red_team + settings.prompts.helpful
    try:
        base = starting_policy(project, None).path
    except ModelError:  # which the run will say
        return 0
    return len(CHECKPOINTS) * footprint(base, settings, "supervised").most + prompts * CALLS * ROW
