"""Reports: the pages of versions, made anew from their records whenever they are opened, and the pages that are files.

Guarantee: opening a page writes nothing.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from cai_assets.pipeline.project import Project
from cai_assets.reports.compare.gather import compare
from cai_assets.reports.compare.page import render as compare_page
from cai_assets.reports.version.evidence import beside, evaluated, every_version, evidence_of
from cai_assets.reports.version.page import render as version_page
from cai_assets.reports.versions.page import render as versions_page
from cai_assets.store.records import RecordMissing
from cai_assets.studio.pages import FILE_POLICY, page, project_of

FOLDER = "reports/"
LIVE = ("version", "versions.html", "compare")  # shown anew, not as the files that runs have written
BACK = '<p class="source"><a href="/studio/reports">Studio: all reports</a></p>'


def reports(request: Request) -> Response:
    """Links to every page."""
    project = project_of()
    versions = list(reversed(evaluated(project.layout)))
    before = {v: next((w for w in versions[place + 1:] if _same(project, v, w)), None)
              for place, v in enumerate(versions)}
    folders: dict[str, list[str]] = {}
    for name in _files(project):
        folder, _, file = name.partition("/")
        if folder not in LIVE:
            folders.setdefault(folder if file else "others", []).append(name)
    return page(request, "reports.html.j2", part="reports", title="Reports", versions=versions, before=before,
                folders=folders)


def of_version(request: Request) -> Response:
    """The report of one version."""
    project = project_of()
    settings = project.settings
    evidence = evidence_of(project.layout, request.path_params["version"], settings.monitors,
                           settings.price_per_gpu_hour)
    return report(version_page(evidence, beside(evidence)))


def of_all(request: Request) -> Response:
    """The report across versions."""
    project = project_of()
    settings = project.settings
    return report(versions_page(every_version(project.layout, settings.monitors, settings.price_per_gpu_hour)))


def of_two(request: Request) -> Response:
    """Two versions compared."""
    query = request.query_params
    return report(compare_page(compare(project_of().layout, query.get("before", ""), query.get("after", ""))))


def of_file(request: Request) -> Response:
    """A page that a command or a run has written."""
    project, name = project_of(), request.path_params["name"]
    if name not in _files(project):
        raise RecordMissing(f"there is no report {name}: the reports are listed at /studio/reports")
    return report(project.layout.storage.get(FOLDER + name).decode("utf-8"))


def _files(project: Project) -> list[str]:
    return [e.name.removeprefix(FOLDER) for e in project.layout.storage.list(FOLDER.rstrip("/"))
            if e.name.endswith(".html")]


def _same(project: Project, one: str, other: str) -> bool:
    """Whether two versions are of one constitution."""
    return project.snapshots.load(one).name == project.snapshots.load(other).name


def report(html: str) -> Response:
    """A report as a page of the studio."""
    shown = html.replace("<body>", f"<body>\n{BACK}", 1)
    return HTMLResponse(shown, headers={"Content-Security-Policy": FILE_POLICY, "Cache-Control": "no-store"})
