"""The page of a registered version: its texts, what is made of it, and what to do with it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cai_assets.assets import CHECKPOINTS, WITHOUT_VERSION
from cai_assets.constitution.edit import TEXTS
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import begin_round, round_before
from cai_assets.plan.plan import make_plan
from cai_assets.reports.version.evidence import evaluated
from cai_assets.studio.pages import SCALES, Posted, page, part, project_of, runs_of
from cai_assets.studio.plans import as_html
from cai_assets.versions.archive import Archive, previous
from cai_assets.versions.derived import Derivations
from cai_assets.versions.places import places
from cai_assets.versions.rounds import round_of


class ToRun(Posted):
    scale: str | None = None


class ToArchive(Posted):
    archived: bool


def version(request: Request) -> Response:
    """What a version says, and what to do with it."""
    key, project = request.path_params["version"], project_of()
    constitution = project.snapshots.load(key)
    return page(request, "version.html.j2", title=f"Version {key}", key=key, constitution=constitution,
                before=previous(key, project.snapshots), run=runs_of(request).latest().get(key),
                place=places(project.snapshots).get(key), archived=key in Archive(project.layout).archived(),
                origin=Derivations(project.layout).origin(key), later=round_of(key).next().key,
                measured=key in evaluated(project.layout), checkpoints=_checkpoints(project, key),
                scales=SCALES, scale=project.settings.scale, texts=[f for f in TEXTS if f != "name"])


def run(request: Request, given: ToRun) -> dict[str, Any]:
    """Hand a registered version to Dagster, as its own pages do."""
    key = request.path_params["version"]
    project_of(given.scale).snapshots.load(key)
    return _started(request, key, given.scale)


def archive(request: Request, given: ToArchive) -> dict[str, Any]:
    """Take a version out of scheduled reruns, or back into them."""
    key, book = request.path_params["version"], Archive(project_of().layout)
    changed = book.archive(key) if given.archived else book.restore(key)
    state = "archived" if given.archived else "in use"
    return {"said": f"{key} is {state}" if changed else f"{key} is already {state}", "again": ""}


def next_round(request: Request) -> Response:
    """What the round after this one is, to be planned and started. Raise RecordMissing before its RL policy is made."""
    key, project = request.path_params["version"], project_of(request.query_params.get("scale"))
    later = round_of(key).next().key
    project.snapshots.load(key)
    round_before(project, later)
    return page(request, "round.html.j2", title=f"Round {round_of(later).number} of {round_of(key).version}", key=key,
                later=later, begun=later in project.snapshots.known(), scales=SCALES, scale=project.settings.scale)


def plan_round(request: Request) -> Response:
    """A part of the page of a round: its plan."""
    key, project = request.path_params["version"], project_of(request.query_params.get("scale"))
    constitution = project.snapshots.load(key)
    return part(as_html(project, make_plan(project, round_of(key).next().key), constitution, in_words=True))


def start_round(request: Request, given: ToRun) -> dict[str, Any]:
    """Register the next round, as ``cai round`` does, and hand it to Dagster."""
    return _started(request, begin_round(project_of(given.scale), request.path_params["version"]), given.scale)


def _started(request: Request, key: str, scale: str | None) -> dict[str, Any]:
    runs = runs_of(request)
    runs.add(key)
    started = runs.launch(key, {"scale": scale} if scale else {})
    return {"run": started, "said": "Started.", "address": f"/runs/{started}", "words": "Watch the run"}


def _checkpoints(project: Project, key: str) -> list[str]:
    """Of the version, as what they are traced by: ASSET@VERSION."""
    own = [asset for asset in CHECKPOINTS if asset not in WITHOUT_VERSION]
    return [f"{asset}@{key}" for asset in own if key in project.records.partitions(asset)]
