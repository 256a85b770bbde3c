"""Chains: a list to filter, and one chain from its prompt to the checkpoints, alone or beside another version's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cai_assets.lineage.trace import row_chain
from cai_assets.pipeline.project import Project
from cai_assets.reports.compare.gather import revisions_of
from cai_assets.reports.compare.sides import Side, side
from cai_assets.reports.escape import shorten
from cai_assets.store.records import RecordMissing
from cai_assets.studio.pages import fragment, page, part, project_of
from cai_assets.studio.steps import said, side_by_side, steps_of

AT_ONCE = 50
SHORT = 140
UNCHANGED = ("same", "none")


def newest(request: Request) -> Response:
    """The chains of the newest version that has any."""
    if made := _versions(project_of()):
        return RedirectResponse(f"/studio/chains/{made[0]}")
    raise RecordMissing("no version has chains yet: run one, from its page or with cai materialize NAME")


def chains(request: Request) -> Response:
    """The prompts of a version with what their chains drew and what changed since another version."""
    version, project = request.path_params["version"], project_of()
    mine = side(project.layout, version)
    asked = {name: request.query_params.get(name, "") for name in ("principle", "category", "since", "text")}
    found = _list(project, mine)
    principles = sorted({i for ids in found["principles"] for i in ids})
    categories = sorted(found["category"].unique().to_list())
    changed = _changed(project, mine, asked["since"])
    shown = _filtered(found, asked, changed)
    given = request.query_params.get("from", "")
    start = int(given) if given.isdecimal() else 0
    return page(request, "chains.html.j2", part="chains", title=f"Chains of {version}", version=version, asked=asked,
                versions=_versions(project), principles=principles, categories=categories, total=found.height,
                count=shown.height, start=start, step=AT_ONCE, changed=changed,
                rows=list(_shown(shown.slice(start, AT_ONCE))))


def chain(request: Request) -> Response:
    """One chain, with word diffs, and with ``beside`` the same chain under another version."""
    version, prompt, project = request.path_params["version"], request.path_params["prompt"], project_of()
    other = request.query_params.get("beside", "")
    mine = steps_of(side(project.layout, version), prompt)
    pairs = side_by_side(mine, steps_of(side(project.layout, other), prompt)) if other else [(s, None) for s in mine]
    return page(request, "chain.html.j2", part="chains", title=f"Chain of {prompt}", version=version, prompt=prompt,
                other=other, pairs=pairs, versions=[v for v in _versions(project) if v != version])


def trained(request: Request) -> Response:
    """A part of the page of a chain, for itself because it reads every record: what was trained on it."""
    prompt = request.path_params["prompt"]
    found = _trained(project_of(), request.query_params.get("version", ""), prompt)
    return part(fragment("trained.html.j2", prompt=prompt, trained=found))


def _versions(project: Project) -> list[str]:
    """Those with chains, newest first."""
    made = set(project.records.partitions("revisions"))
    return [v for v in reversed(project.snapshots.known()) if v in made]


def _list(project: Project, mine: Side) -> pl.DataFrame:
    """prompt_id, kind, category, prompt, principles in the order of the rounds, and how many pairs were labeled."""
    responses = mine.table("starting_responses")
    revisions = mine.table("revisions", "prompt_id", "round", "principle_id")
    if responses is None or revisions is None:
        raise RecordMissing(f"{mine.version} has no chains yet: run it, from its page or with cai materialize "
                            f"{mine.version}")
    drawn = revisions.sort("round").group_by("prompt_id").agg(principles=pl.col("principle_id").drop_nulls())
    labels = mine.table("preference_pairs", "prompt_id", "label")
    graded = (pl.DataFrame(schema={"prompt_id": pl.String, "labels": pl.UInt32}) if labels is None else
              labels.group_by("prompt_id").agg(labels=pl.col("label").count()))
    return responses.join(drawn, on="prompt_id", how="left").join(graded, on="prompt_id", how="left").filter(
        pl.col("principles").is_not_null() | (pl.col("labels") > 0)).with_columns(
        pl.col("principles").fill_null(pl.lit([], pl.List(pl.String)))).sort("prompt_id")


def _changed(project: Project, mine: Side, since: str) -> dict[str, int]:
    """How many revisions of each prompt read differently in another version."""
    if not since:
        return {}
    found = revisions_of(side(project.layout, since), mine)
    if found is None:
        return {}
    return dict(found.rows.filter(~pl.col("text").is_in(UNCHANGED)).group_by("prompt_id").len().iter_rows())


def _filtered(found: pl.DataFrame, asked: dict[str, str], changed: dict[str, int]) -> pl.DataFrame:
    if asked["principle"]:
        found = found.filter(pl.col("principles").list.contains(asked["principle"]))
    if asked["category"]:
        found = found.filter(pl.col("category") == asked["category"])
    if asked["since"]:
        found = found.filter(pl.col("prompt_id").is_in(list(changed)))
    if asked["text"]:
        words = asked["text"].casefold()
        found = found.filter(pl.Series([words in said(m).casefold() for m in found["messages"].to_list()],
                                       dtype=pl.Boolean))
    return found


def _shown(rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for row in rows.iter_rows(named=True):
        yield {**row, "prompt": shorten(" ".join(said(row["messages"]).split()), SHORT)}


def _trained(project: Project, version: str, prompt: str) -> Sequence[tuple[str, int]]:
    """The checkpoints of this version, and of all, that rows of the chain were trained on, with how many rows."""
    rows = row_chain(project.layout, prompt)
    counts: dict[str, int] = {}
    for names in rows["trained_in"].to_list():
        for name in dict.fromkeys(names or []):
            counts[name] = counts.get(name, 0) + 1
    return sorted(counts.items(), key=lambda item: (f"/{version}/" not in item[0], item[0]))
