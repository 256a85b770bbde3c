"""The arena: the answers of any versions' policies to one prompt, blind on request, and a person's judgment."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cai_assets.errors import CaiError
from cai_assets.pipeline.project import Project
from cai_assets.reports.version.evidence import evaluated
from cai_assets.store.records import RecordMissing
from cai_assets.studio.answers import asked, own
from cai_assets.studio.live import sample
from cai_assets.studio.pages import Posted, page, project_of
from cai_assets.studio.steps import said
from cai_assets.studio.votes import Votes


class Vote(Posted):
    """``prompt``: of a stored one; ``text``: a person's own instead. ``better``: the place, from 0, of an answer on the
    page; ``blind``: the seed of the page's order, if it was."""

    versions: tuple[str, ...]
    prompt: str = ""
    text: str = ""
    blind: str = ""
    better: int


class ToSample(Posted):
    """``text``: a prompt of the person's own."""

    versions: tuple[str, ...]
    text: str


def arena(request: Request) -> Response:
    """The answers to one prompt."""
    project, query = project_of(), request.query_params
    known = list(reversed(evaluated(project.layout)))
    versions = [v for v in query.getlist("versions") if v in known] or known[:1]
    if not versions:
        raise RecordMissing("no version has been evaluated yet: run one, from its page or with cai materialize NAME")
    found, prompts = asked(project, versions, query.get("prompt", ""))
    place, typed = prompts.index(found.prompt), query.get("text", "").replace("\r\n", "\n")
    mine = own(project, versions, typed) if typed.strip() else None
    found = mine.asked if mine else found
    blind = query.get("blind", "")
    blind = secrets.token_hex(4) if blind == "new" else blind
    votes = Votes(project.layout)
    return page(request, "arena.html.j2", part="arena", title="Arena", known=known, versions=versions, asked=found,
                text=said(found.messages), blind=blind, answers=list(zip(_letters(), found.shown(blind), strict=False)),
                prompts=prompts, place=place, typed=typed, mine=mine, after=prompts[(place + 1) % len(prompts)],
                before=prompts[place - 1], votes=votes.count, file=str(votes.path))


def vote(request: Request, given: Vote) -> dict[str, Any]:
    """Append a judgment."""
    project = project_of()
    versions = _evaluated(project, given.versions)
    found = own(project, versions, given.text).asked if given.text else asked(project, versions, given.prompt)[0]
    shown, votes = found.shown(given.blind), Votes(project.layout)
    if not 0 <= given.better < len(shown):
        raise CaiError(f"there are {len(shown)} answers to {found.prompt} now: open the page again")
    kept = votes.add(found, shown[given.better], blind=bool(given.blind))
    return {"names": [answer.name for answer in shown], "new": kept.added, "count": kept.every}


def sample_own(request: Request, given: ToSample) -> dict[str, Any]:
    """Sample the answers to a person's own prompt that are not stored, as ``cai ask`` does."""
    versions = _evaluated(project_of(), given.versions)
    if not versions or not given.text.strip():
        raise CaiError("choose a version and write a prompt")
    sample(given.text, versions)
    return {"again": ""}


def _evaluated(project: Project, versions: Sequence[str]) -> list[str]:
    known = evaluated(project.layout)
    return [v for v in versions if v in known]


def _letters() -> list[str]:
    return [*ascii_uppercase, *(a + b for a in ascii_uppercase for b in ascii_uppercase)]
