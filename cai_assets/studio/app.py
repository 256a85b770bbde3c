"""The studio's addresses, below ``/studio``."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Route

from cai_assets.studio import arena, attribution, chains, constitution, red_team, reports, traces, versions
from cai_assets.studio.index import index
from cai_assets.studio.pages import FAULTS, failed, posted, static
from cai_assets.studio.runs import Runs

AT = "/studio"


def studio(runs: Runs) -> Starlette:
    """The application, to be mounted at ``AT`` behind the guard. A GET changes nothing; a POST is JSON."""
    one, version = "/constitutions/{name}", "/versions/{version}"
    app = Starlette(exception_handlers=dict.fromkeys(FAULTS, failed), routes=[
        Route("/", index),
        Route("/style.css", static("studio.css", "text/css")),
        Route("/studio.js", static("studio.js", "text/javascript")),
        Route(one, constitution.edit),
        Route(f"{one}/check", posted(constitution.Edited, constitution.check, changes=False), methods=["POST"]),
        Route(f"{one}/plan", posted(constitution.Edited, constitution.plan, changes=False), methods=["POST"]),
        Route(f"{one}/save", posted(constitution.ToSave, constitution.save, changes=True), methods=["POST"]),
        Route(version, versions.version),
        Route(f"{version}/run", posted(versions.ToRun, versions.run, changes=True), methods=["POST"]),
        Route(f"{version}/archive", posted(versions.ToArchive, versions.archive, changes=True), methods=["POST"]),
        Route(f"{version}/round", versions.next_round),
        Route(f"{version}/round/start", posted(versions.ToRun, versions.start_round, changes=True), methods=["POST"]),
        Route(f"{version}/round/plan", versions.plan_round),
        Route(f"{version}/attribution", attribution.attribution),
        Route(f"{version}/attribution/start", posted(attribution.Wanted, attribution.start, changes=True),
              methods=["POST"]),
        Route(f"{version}/attribution/plan", attribution.plan),
        Route("/chains", chains.newest),
        Route("/chains/{version}", chains.chains),
        Route("/chains/{version}/{prompt:path}", chains.chain),
        Route("/trained/{prompt:path}", chains.trained),
        Route("/trace/{target:path}", traces.traced),
        Route("/arena", arena.arena),
        Route("/arena/sample", posted(arena.ToSample, arena.sample_own, changes=True), methods=["POST"]),
        Route("/arena/vote", posted(arena.Vote, arena.vote, changes=True), methods=["POST"]),
        Route("/red-team", red_team.red_team),
        Route("/red-team/breaks", posted(red_team.Search, red_team.write, changes=True), methods=["POST"]),
        Route("/red-team/{name}", red_team.review),
        Route("/red-team/{name}/decide", posted(red_team.Decision, red_team.decide, changes=True), methods=["POST"]),
        Route("/red-team/{name}/accept", posted(red_team.ToAccept, red_team.accept, changes=True), methods=["POST"]),
        Route("/reports", reports.reports),
        Route("/reports/version/{version}", reports.of_version),
        Route("/reports/versions", reports.of_all),
        Route("/reports/compare", reports.of_two),
        Route("/reports/attribution/{version}", attribution.of_principles),
        Route("/reports/files/{name:path}", reports.of_file),
    ])
    app.state.runs = runs
    return app
