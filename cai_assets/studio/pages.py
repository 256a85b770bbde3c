"""Pages and answers of the studio: templates, and who may post what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from cai_assets.errors import CaiError
from cai_assets.pipeline.project import Project
from cai_assets.reports.html.page import environment
from cai_assets.settings.model import Scale
from cai_assets.store import this_run
from cai_assets.studio.runs import Runs

# Stricter than the guard's: no script and no style but our two files.
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; "
          "base-uri 'none'; frame-ancestors 'none'")
# A report is one file without scripts, whatever its texts say.
FILE_POLICY = ("default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
               "frame-ancestors 'none'")
UNKNOWN = {
    404: "the studio has no page at this address: choose one above, or begin with all constitutions and versions",
    405: "nothing can be read at this address: it is where a button of the studio sends what it does; open its page",
}
READ_ONLY = "this server was started with --read-only: nothing can be changed here"
PARTS = {"": "Versions", "chains": "Chains", "arena": "Arena", "reports": "Reports", "red-team": "Red team"}
SCALES = get_args(Scale)

Body = TypeVar("Body", bound="Posted")


class Posted(BaseModel):
    """What a page sends; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def runs_of(request: Request) -> Runs:
    runs: Runs = request.app.state.runs
    return runs


def project_of(scale: str | None = None) -> Project:
    """The project as its settings are now. Raise SettingsError."""
    return Project.open({"scale": scale} if scale else None)


def page(request: Request, template: str, *, title: str, part: str = "", status: int = 200, **content: Any) -> Response:
    """A whole page. ``part``: of PARTS, the one that it belongs to."""
    html = templates().get_template(template).render(
        title=title, part=part, parts=PARTS, read_only=runs_of(request).read_only, **content)
    return HTMLResponse(html, status, {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})


def fragment(template: str, **content: Any) -> str:
    """A part of a page."""
    html: str = templates().get_template(template).render(**content)
    return html


def part(html: str) -> Response:
    """A part of a page, which the page asks for when it is there."""
    return HTMLResponse(html, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})


def posted(body: type[Body], answer: Callable[[Request, Body], Mapping[str, Any]], *, changes: bool) -> Any:
    """The endpoint of a POST. ``changes``: refused where nothing may be changed; others only look."""
    async def endpoint(request: Request) -> Response:
        if changes and runs_of(request).read_only:
            return _refused(READ_ONLY, 403)
        try:
            given = body.model_validate_json(await request.body())
        except ValidationError as e:
            fault = e.errors(include_url=False, include_input=False)[0]
            return _refused(f"{'.'.join(map(str, fault['loc'])) or 'the request'}: {fault['msg']}", 400)
        this_run.begin()
        return JSONResponse(await run_in_threadpool(answer, request, given), headers={"Cache-Control": "no-store"})

    return endpoint


def failed(request: Request, error: Exception) -> Response:
    """A page, or an answer to a page, that says what is wrong and what to do."""
    status = error.status_code if isinstance(error, HTTPException) else 404 if isinstance(error, LookupError) else 400
    said = UNKNOWN.get(status, error.detail) if isinstance(error, HTTPException) else str(error)
    if request.method == "POST":
        return _refused(said, status)
    return page(request, "error.html.j2", title="This page cannot be shown", said=said, status=status)


def static(name: str, kind: str) -> Any:
    """The endpoint of a file that comes with the studio."""
    def endpoint(request: Request) -> Response:
        return Response(_static(name), media_type=kind, headers={"Cache-Control": "no-cache"})

    return endpoint


FAULTS: tuple[type[Exception], ...] = (CaiError, HTTPException)


@cache
def templates() -> Any:
    return environment(package="cai_assets.studio")


@cache
def _static(name: str) -> str:
    own = files("cai_assets.studio").joinpath("static", name).read_text(encoding="utf-8")
    if not name.endswith(".css"):
        return own
    return files("cai_assets.reports.html").joinpath("page.css").read_text(encoding="utf-8") + own


def _refused(line: str, status: int) -> Response:
    return JSONResponse({"error": line}, status)
