"""The red-team loop: prompts that broke a policy, a person's decision on each, and the kept ones as training prompts.

Reviews are the files that ``cai red-team`` reads, ``reviews/*.jsonl`` and ``*.csv`` in the project. Guarantees: a page
names such a file or a prompt file in ``prompts/`` and no other; a decision is saved at once, and never over a row that
changed since it was shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Literal
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from cai_assets.assets import TRAINED
from cai_assets.errors import CaiError
from cai_assets.evals.red_team import KIND, Break, Broke, NotReviewed
from cai_assets.evals.refusal_labels import how_good
from cai_assets.evals.review_file import read_review, write_review
from cai_assets.pipeline.red_team import SUITES, Found, NoBreaks, accept_into, find_breaks
from cai_assets.reports.escape import shorten
from cai_assets.settings.base import project_root
from cai_assets.store.canonical import tagged_hash
from cai_assets.studio.pages import Posted, page, project_of

FOLDER, PROMPTS = "reviews", "prompts"
SHOWN, SHORT = 5, 160
ENDINGS = (".jsonl", ".csv")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,100}")
_deciding = Lock()


class NoSuchReview(CaiError, LookupError):
    """There is no review file of that name."""


class Search(Posted):
    """Whose breaks, as the options of ``cai red-team breaks``."""

    version: str
    policy: str = TRAINED[-1]
    broke: Broke = "complied"
    held_out: bool = False


class Decision(Posted):
    """On row ``at``, from 0, as it was when ``seen`` named it. ``keep``: yes, no, or 'later' to save texts alone."""

    at: int
    seen: str
    prompt: str
    note: str = ""
    keep: Literal["yes", "no", "later"]


class ToAccept(Posted):
    """``into``: the name of a prompt file."""

    into: str


def red_team(request: Request) -> Response:
    """The reviews, and what broke a policy. Runs no model."""
    project, query = project_of(), request.query_params
    versions = [v for v in reversed(project.snapshots.known()) if v in project.records.partitions(SUITES)]
    search, found, why = None, None, ""
    if version := query.get("version", ""):
        search = Search(version=version, policy=query.get("policy", TRAINED[-1]), held_out="held_out" in query,
                        broke="over-refused" if query.get("broke") == "over-refused" else "complied")
        try:
            found = _found(search)
        except NoBreaks as e:
            why = str(e)
    return page(request, "red_team.html.j2", part="red-team", title="Red team", versions=versions, version=version,
                search=search, found=found, why=why, some=_some(found), policies=reversed(TRAINED), kinds=tuple(KIND),
                rule=how_good(found.rule) if found else "", file=_file_of(search) if search else "",
                reviews=[_standing(path) for path in _reviews()])


def write(request: Request, search: Search) -> dict[str, Any]:
    """Write the breaks to a review file. Raise CaiError if it is there: it may hold decisions."""
    name = _file_of(search)
    path = _folder() / name
    if path.exists():
        raise CaiError(f"{FOLDER}/{name} is there already and may hold decisions: open it below, or move it away")
    breaks = _found(search).breaks
    if not breaks:
        raise CaiError("nothing broke this policy: there is nothing to review")
    path.parent.mkdir(exist_ok=True)
    write_review(path, breaks)
    return {"again": _address(name)}


def review(request: Request) -> Response:
    """One prompt to decide on: the one that is asked for, or the first without a decision."""
    path = _path(request.path_params["name"])
    rows = read_review(path)
    given = request.query_params.get("at", "")
    at = int(given) if given.isdecimal() and int(given) < len(rows) else _next(rows, -1)
    return page(request, "review.html.j2", part="red-team", title=f"Review {path.name}", name=path.name, rows=rows,
                at=at, row=rows[at] if rows else None, seen=_seen(rows[at]) if rows else "",
                left=sum(r.keep is None for r in rows), into=f"{path.stem}.jsonl")


def decide(request: Request, given: Decision) -> dict[str, Any]:
    """Save a decision, and go on to the next row without one. Raise CaiError if the row is not what was shown."""
    path = _path(request.path_params["name"])
    with _deciding:
        rows = read_review(path)
        if not 0 <= given.at < len(rows) or _seen(rows[given.at]) != given.seen:
            raise CaiError(f"{path.name} has changed since this page was opened: open it again")
        text = given.prompt.replace("\r\n", "\n").rstrip("\n")
        if not text.strip():
            raise CaiError("the prompt is empty: drop it instead")
        keep = {"yes": True, "no": False, "later": None}[given.keep]
        rows[given.at] = rows[given.at]._replace(keep=keep, note=given.note, prompt=text)
        write_review(path, rows)
    return {"again": f"{_address(path.name)}?at={_next(rows, given.at)}"}


def accept(request: Request, given: ToAccept) -> dict[str, Any]:
    """Add the kept prompts to a prompt file. Raise CaiError while one is undecided."""
    path, name = _path(request.path_params["name"]), given.into
    if not NAME.fullmatch(name) or not name.endswith(".jsonl"):
        raise CaiError(f"{name!r} cannot name a prompt file: small letters, digits, '-' and '_', and .jsonl at the end")
    project = project_of()
    target = project_root() / PROMPTS / name
    try:
        accepted = accept_into(project, read_review(path), target)
    except NotReviewed as e:
        raise CaiError(f"{e}: decide on each first") from None
    said = (f"{len(accepted.rows)} prompts added to {PROMPTS}/{name}; {accepted.dropped} dropped, {accepted.known} are "
            "already training prompts.")
    paths = project.settings.prompts.paths
    if target.exists() and target not in paths:
        listed = ", ".join([*(str(p) for p in paths or ("bundled",)), f"{PROMPTS}/{name}"])
        said += f" To train on them: set prompts.paths=[{listed}] in settings.yaml."
    return {"said": said}


def _some(found: Found | None) -> list[tuple[str, str]]:
    """The first prompts, short, with their categories."""
    return [(shorten(" ".join(b.prompt.split()), SHORT), b.category) for b in found.breaks[:SHOWN]] if found else []


def _found(search: Search) -> Found:
    return find_breaks(project_of(), search.version, search.policy, search.broke, held_out=search.held_out)


def _file_of(search: Search) -> str:
    return f"{search.version}-{search.policy}-{search.broke}{'-held-out' if search.held_out else ''}.jsonl"


def _folder() -> Path:
    return project_root() / FOLDER


def _reviews() -> list[Path]:
    return sorted(p for p in _folder().glob("*") if p.suffix in ENDINGS and p.is_file())


def _path(name: str) -> Path:
    """A review file. Raise NoSuchReview."""
    found = {p.name: p for p in _reviews()}
    if name not in found:
        raise NoSuchReview(f"there is no review {name} in {FOLDER}/: write one from the page Red team, or with "
                           "cai red-team breaks")
    return found[name]


def _standing(path: Path) -> dict[str, Any]:
    """A review file with how many are decided, or why it cannot be read."""
    try:
        rows = read_review(path)
    except CaiError as e:
        return {"name": path.name, "fault": str(e)}
    return {"name": path.name, "fault": "", "rows": len(rows), "left": sum(r.keep is None for r in rows),
            "kept": sum(r.keep is True for r in rows)}


def _address(name: str) -> str:
    return f"/studio/red-team/{quote(name)}"


def _next(rows: Sequence[Break], at: int) -> int:
    """The next row without a decision, round the end; else the one itself."""
    after = [*range(at + 1, len(rows)), *range(max(at, 0))]
    return next((i for i in after if rows[i].keep is None), max(at, 0))


def _seen(row: Break) -> str:
    return tagged_hash("break", [row.keep, row.note, row.prompt, row.response, *row.origin])
