"""The page of a constitution: principles as cards, edited in place, with lint and plan beside them; save, and run.

And the page of a registered version, to be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Any, get_args

from starlette.requests import Request
from starlette.responses import Response

from cai_assets.constitution.edit import TEXTS
from cai_assets.pipeline.project import Project
from cai_assets.plan import fits
from cai_assets.plan.formats import keeping
from cai_assets.plan.models import said_of_models
from cai_assets.plan.plan import Plan, plan_draft
from cai_assets.plan.space import said
from cai_assets.plan.words import bounds, in_short, number, remarks, sampled
from cai_assets.settings.model import Scale
from cai_assets.studio import draft as drafts
from cai_assets.studio.pages import Posted, fragment, page, project_of, runs_of
from cai_assets.versions.archive import previous

SCALES = get_args(Scale)
_planning = Lock()  # one at a time: a plan takes a core, and a page asks again while one types


class Edited(Posted):
    """``file``: as it was read or typed; ``edits``: of single texts of it."""

    file: str
    edits: tuple[drafts.Edit, ...] = ()
    scale: str | None = None


class ToSave(Edited):
    seen: str


class ToRun(Posted):
    scale: str | None = None


def edit(request: Request) -> Response:
    """The editor of a file."""
    project = project_of()
    path = drafts.find_file(project, request.path_params["name"])
    file, seen = drafts.read(path)
    made = drafts.draft(path, file)
    return page(request, "edit.html.j2", title=f"Constitution {path.stem}", name=path.stem, made=made, seen=seen,
                findings=made.findings(), rules=_rules(made), scales=SCALES, scale=project.settings.scale,
                registered=made.version in project.snapshots.known())


def version(request: Request) -> Response:
    """The texts of a registered version."""
    key, project = request.path_params["version"], project_of()
    constitution = project.snapshots.load(key)
    return page(request, "version.html.j2", title=f"Version {key}", key=key, constitution=constitution,
                before=previous(key, project.snapshots), run=runs_of(request).latest().get(key),
                scales=SCALES, scale=project.settings.scale, texts=[f for f in TEXTS if f != "name"])


def check(request: Request, given: Edited) -> dict[str, Any]:
    """Lint: the file with all edits, what is wrong with it, and what there is to advise."""
    project, made = _made(request, given)
    return {"file": made.file, "version": made.version, "problems": list(made.problems), "texts": made.texts,
            "findings": [f._asdict() for f in made.findings()],
            "registered": made.version in project.snapshots.known()}


def plan(request: Request, given: Edited) -> dict[str, Any]:
    """What the edit would cost, and what causes it."""
    project, made = _made(request, given, given.scale)
    if made.constitution is None:
        return {"html": "", "summary": "This cannot be planned before it is mended."}
    with _planning:
        planned = plan_draft(project, made.constitution)
    html = fragment("plan.html.j2", plan=planned, bounds=bounds, number=number,
                    remarks=list(_remarks(project, planned)))
    return {"html": html, "summary": in_short(planned)}


def save(request: Request, given: ToSave) -> dict[str, Any]:
    """Write the file, register the version, add its partition."""
    project, made = _made(request, given)
    key = drafts.save(project, made, given.seen)
    runs_of(request).add(key)
    return {"version": key, "seen": drafts.read(made.path)[1], "file": made.file, "texts": made.texts}


def run(request: Request, given: ToRun) -> dict[str, Any]:
    """Hand a registered version to Dagster, as its own pages do."""
    key, runs = request.path_params["version"], runs_of(request)
    project_of(given.scale).snapshots.load(key)
    runs.add(key)
    started = runs.launch(key, given.scale)
    return {"run": started, "address": f"/runs/{started}"}


def _rules(made: drafts.Draft) -> dict[str, Any]:
    """By id, the principle that the file has or a clause of it makes; a clause that is deferred makes none."""
    return {p.id: p for p in made.constitution.principles} if made.constitution else {}


def _made(request: Request, given: Edited, scale: str | None = None) -> tuple[Project, drafts.Draft]:
    project = project_of(scale)
    path = drafts.find_file(project, request.path_params["name"])
    return project, drafts.draft(path, given.file, given.edits)


def _remarks(project: Project, plan: Plan) -> Iterator[str]:
    every = [*said_of_models(project), *remarks(plan), *sampled(project.settings.models), said(project, plan),
             *fits.said(project, plan), keeping(project, plan.causes())]
    return (str(one) for one in every if one)
