"""The page of a constitution: principles as cards, edited in place, with lint and plan beside them, to be saved."""

from __future__ import annotations

from threading import Lock
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cai_assets.pipeline.project import Project
from cai_assets.plan.plan import plan_draft
from cai_assets.plan.words import in_short
from cai_assets.studio import draft as drafts
from cai_assets.studio.pages import SCALES, Posted, page, project_of, runs_of
from cai_assets.studio.plans import as_html

_planning = Lock()  # one at a time: a plan takes a core, and a page asks again while one types


class Edited(Posted):
    """``file``: as it was read or typed; ``edits``: of single texts of it."""

    file: str
    edits: tuple[drafts.Edit, ...] = ()
    scale: str | None = None


class ToSave(Edited):
    seen: str


def edit(request: Request) -> Response:
    """The editor of a file."""
    project = project_of()
    path = drafts.find_file(project, request.path_params["name"])
    file, seen = drafts.read(path)
    made = drafts.draft(path, file)
    return page(request, "edit.html.j2", title=f"Constitution {path.stem}", name=path.stem, made=made, seen=seen,
                findings=made.findings(), rules=_rules(made), scales=SCALES, scale=project.settings.scale,
                registered=made.version in project.snapshots.known())


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
    return {"html": as_html(project, planned, made.constitution), "summary": in_short(planned)}


def save(request: Request, given: ToSave) -> dict[str, Any]:
    """Write the file, register the version, add its partition."""
    project, made = _made(request, given)
    key = drafts.save(project, made, given.seen)
    runs_of(request).add(key)
    return {"version": key, "seen": drafts.read(made.path)[1], "file": made.file, "texts": made.texts}


def _rules(made: drafts.Draft) -> dict[str, Any]:
    """By id, the principle that the file has or a clause of it makes; a clause that is deferred makes none."""
    return {p.id: p for p in made.constitution.principles} if made.constitution else {}


def _made(request: Request, given: Edited, scale: str | None = None) -> tuple[Project, drafts.Draft]:
    project = project_of(scale)
    path = drafts.find_file(project, request.path_params["name"])
    return project, drafts.draft(path, given.file, given.edits)
