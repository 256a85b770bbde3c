"""What each principle of a version does: the plan of leaving principles out, the runs that do it, and what came of it.

Each derived version is a run of its own in Dagster, with what ``cai attribute`` would run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cai_assets.assets import TO_ATTRIBUTE
from cai_assets.constitution.derive import Derived, family
from cai_assets.errors import CaiError
from cai_assets.pipeline.project import Project
from cai_assets.plan import attribution_words as words
from cai_assets.plan.attribution import cost, plan_family, standing, whole_standing
from cai_assets.plan.plan import make_plan
from cai_assets.reports.attribution.gather import Attribution, NoEffects, check_whole, gather
from cai_assets.reports.attribution.page import render
from cai_assets.reports.html.page import Table
from cai_assets.store.records import RecordMissing
from cai_assets.studio.pages import SCALES, Posted, fragment, page, part, project_of, runs_of
from cai_assets.studio.reports import report
from cai_assets.versions.derived import Derivations

MOST_SEEDS = 20


class Wanted(Posted):
    """Which derived versions, as the options of ``cai attribute``; ``principles``: ids, none for all."""

    principles: tuple[str, ...] = ()
    alone: bool = False
    null: bool = False
    seeds: int = 1
    scale: str | None = None


def attribution(request: Request) -> Response:
    """What to leave out, what that would cost, and what is known."""
    key, wanted = request.path_params["version"], _asked(request)
    project = project_of(wanted.scale)
    constitution = check_whole(project, key)
    return page(request, "attribution.html.j2", title=f"What each principle of {key} does", key=key, wanted=wanted,
                principles=constitution.principles, states=list(_states(request, project, key)),
                query=request.url.query, scales=SCALES, scale=project.settings.scale, most=MOST_SEEDS)


def plan(request: Request) -> Response:
    """A part of the page: what the derived versions would cost."""
    key, wanted = request.path_params["version"], _asked(request)
    project = project_of(wanted.scale)
    derived, impossible = _family(project, key, wanted)
    if why := whole_standing(project, key):
        return part(fragment("family.html.j2", table=None, lines=[
            *impossible, words.whole(key, why, cost(make_plan(project, key)))]))
    planned = plan_family(project, key, derived)
    table = Table(words.TITLE, words.HEADS, list(words.rows(planned)))
    return part(fragment("family.html.j2", table=table, lines=[
        *impossible, *words.states(planned), *words.sums(planned, project.settings)]))


def start(request: Request, wanted: Wanted) -> dict[str, Any]:
    """Register the derived versions that are not measured, and hand each to Dagster. Raise CaiError if none is left."""
    key, project, runs = request.path_params["version"], project_of(wanted.scale), runs_of(request)
    derived, _ = _family(project, key, wanted)
    if why := whole_standing(project, key):
        raise CaiError(f"{key} comes first, to compare with: it is {why}. Run it from its page")
    todo = [d for d in derived if standing(project, key, d)]
    if not todo:
        raise CaiError(f"all of these are measured already: open the report, /studio/reports/attribution/{key}")
    for one in todo:
        version = Derivations(project.layout).register(key, one)
        runs.add(version)
        runs.launch(version, _overrides(project, one, wanted), TO_ATTRIBUTE)
    count = f"{len(todo)} run{'s were' if len(todo) > 1 else ' was'}"
    return {"said": f"{count} handed to Dagster.", "address": "/runs", "words": "Watch"}


def of_principles(request: Request) -> Response:
    """The report on what each principle does, from what is measured now."""
    return report(render(gather(project_of(), request.path_params["version"])))


def _overrides(project: Project, derived: Derived, wanted: Wanted) -> dict[str, Any]:
    scale = {"scale": wanted.scale} if wanted.scale else {}
    return {**scale, "seed": project.settings.seed + derived.seed} if derived.seed else scale


def _family(project: Project, key: str, wanted: Wanted) -> tuple[list[Derived], list[str]]:
    if not 1 <= wanted.seeds <= MOST_SEEDS:
        raise CaiError(f"seeds: a number from 1 to {MOST_SEEDS}, not {wanted.seeds}")
    derived, why = family(check_whole(project, key), wanted.principles, alone=wanted.alone, seeds=wanted.seeds,
                          null=wanted.null)
    if not any(d.principle for d in derived):
        raise CaiError(f"no principle can be left out: {'; '.join(why)}")
    return derived, why


def _asked(request: Request) -> Wanted:
    query = request.query_params
    seeds = query.get("seeds", "1")
    return Wanted(principles=tuple(query.getlist("principles")), alone="alone" in query, null="null" in query,
                  seeds=int(seeds) if seeds.isdecimal() else 0, scale=query.get("scale"))


def _states(request: Request, project: Project, key: str) -> Iterator[dict[str, Any]]:
    """What was derived so far, with its newest run."""
    runs = runs_of(request).latest()
    for entry in _known(project, key):
        if entry.key and entry.state in {"measured", "registered"}:
            yield {"entry": entry, "run": runs.get(entry.key)}


def _known(project: Project, key: str) -> Any:
    try:
        found: Attribution = gather(project, key)
    except (RecordMissing, NoEffects):
        return ()
    return found.entries
