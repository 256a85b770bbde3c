"""The first page: every constitution with its versions, what of each is made, and where to read on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cai_assets.constitution.files import constitution_files
from cai_assets.pipeline.project import Project
from cai_assets.reports.standings import current_files, standings
from cai_assets.reports.version.evidence import evaluated
from cai_assets.studio.pages import page, project_of, runs_of
from cai_assets.versions.places import places


def index(request: Request) -> Response:
    """Constitutions by name, their versions newest first."""
    project = project_of()
    every = request.query_params.get("all") == "1"
    return page(request, "index.html.j2", title="Constitutions and their versions",
                constitutions=_constitutions(request, project, every), every=every)


def _constitutions(request: Request, project: Project, every: bool) -> Sequence[dict[str, Any]]:
    current, runs = dict(current_files(project)), runs_of(request).latest()
    measured = set(evaluated(project.layout))
    names = [p.stem for p in constitution_files(project.settings.constitutions)]
    found: dict[str, dict[str, Any]] = {
        name: {"name": name, "file": True, "now": current.get(name), "versions": []} for name in names}
    place = places(project.snapshots)
    for standing in standings(project, set(current.values())):
        name = project.snapshots.load(standing.version).name
        entry = found.setdefault(name, {"name": name, "file": False, "now": None, "versions": []})
        if every or standing.note in {"", "current"}:
            entry["versions"].append({**standing._asdict(), "place": place[standing.version],
                                      "run": runs.get(standing.version), "measured": standing.version in measured})
    return list(found.values())
