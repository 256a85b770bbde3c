"""The comparison over versions: every evaluation side by side, and each version against the one registered before."""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from cai_assets.defs.declared import asset
from cai_assets.defs.metadata import text_preview
from cai_assets.defs.records import store_table
from cai_assets.defs.run import Run
from cai_assets.pipeline.project import Project
from cai_assets.reports.compare.gather import compare_sides, stamp
from cai_assets.reports.compare.page import page_path, save
from cai_assets.reports.compare.sides import Side, side
from cai_assets.reports.compare.words import markdown, numbers
from cai_assets.reports.version.evidence import every_version
from cai_assets.reports.versions.page import save as save_versions
from cai_assets.store.layout import Layout
from cai_assets.store.pages import says
from cai_assets.store.records import RecordMissing
from cai_assets.versions.archive import previous
from cai_assets.versions.derived import Derivations
from cai_assets.versions.snapshots import Snapshots

Pair = tuple[str, str]
SHOWN = 20


@asset("comparison", when=None)
def comparison(run: Run) -> dg.MaterializeResult[None]:
    """The newest evaluation of every constitution version, side by side. One row per version, policy, and metric.

    Excludes versions derived for attribution: the asset 'attribution' shows them. Also writes one HTML page for each
    version and the one registered before it (``cai compare`` writes any other pair), and one page across versions.
    """
    frames = []
    partitions = run.project.records.partitions("evaluation")
    derived = Derivations(run.project.layout).among(partitions)
    evaluated = [version for version in partitions if version not in derived]
    for version in evaluated:
        record = run.project.records.latest("evaluation", version)
        run.using(record)
        frames.append(run.project.records.table(record).select(pl.lit(version).alias("version"), pl.all()))
    if not frames:
        raise RecordMissing("no constitution version has been evaluated yet: materialize 'evaluation' first")
    frame = pl.concat(frames, how="diagonal")  # older tables have fewer columns
    wins = frame.filter(pl.col("metric").str.ends_with("win_rate"), pl.col("policy") == "rl_policy")
    return store_table(run, "comparison", frame, metadata={
        "versions": len(frames), "page_across_versions": dg.MetadataValue.path(str(across(run.project))),
        **pair_metadata(run.project, successive(evaluated, run.project.snapshots)),
        **text_preview(wins.with_columns(pl.col("value").round(3).cast(pl.String)),
                       {"version": "version", "metric": "metric", "value": "RL policy"}, SHOWN)})


def across(project: Project) -> Path:
    """The page across versions, without the ranking: it takes seconds, and ``cai report --all`` adds it."""
    settings = project.settings
    every = every_version(project.layout, settings.monitors, settings.price_per_gpu_hour)
    return save_versions(project.layout, every, ranked=False)


def successive(evaluated: list[str], snapshots: Snapshots) -> list[Pair]:
    """Each evaluated version after the nearest evaluated one registered before it of the same constitution, in the
    order of registration."""
    pairs = []
    for version in (v for v in snapshots.known() if v in evaluated):
        before = previous(version, snapshots)
        while before and before not in evaluated:
            before = previous(before, snapshots)
        if before:
            pairs.append((before, version))
    return pairs


def pair_metadata(project: Project, pairs: list[Pair]) -> dict[str, Any]:
    """The newest pair's differences as table and numbers, and the page of every pair."""
    if not pairs:
        return {}
    newest = compare_sides(*_sides(project.layout, pairs[-1]))
    pages = [_page(project.layout, pair) for pair in pairs[:-1]] + [str(save(project.layout, newest))]
    listed = {f"{after} after {before}": page for (before, after), page in zip(pairs, pages, strict=True)}
    return {"newest_pair": " → ".join(pairs[-1]), "changes": dg.MetadataValue.md(markdown(newest)),
            "page": dg.MetadataValue.path(pages[-1]), "pages": dg.MetadataValue.json(listed), **numbers(newest)}


def _page(layout: Layout, pair: Pair) -> str:
    """The page of a pair, rebuilt unless the existing one is from the same records."""
    sides = _sides(layout, pair)
    path = page_path(layout, *pair)
    if not says(layout, path, stamp(*sides)):
        save(layout, compare_sides(*sides), path)
    return str(path)


def _sides(layout: Layout, pair: Pair) -> tuple[Side, Side]:
    return side(layout, pair[0]), side(layout, pair[1])
