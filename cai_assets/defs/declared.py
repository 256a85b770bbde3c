"""Dagster's arguments for an asset, from its declaration in ``assets.py``; its definition adds the rest."""

from __future__ import annotations

from typing import Any, TypedDict

import dagster as dg

from cai_assets.assets import ASSETS, Asset
from cai_assets.defs.automation import on_real_change
from cai_assets.defs.partitions import versions

OWNERS = ["team:alignment"]
TAGS = {"cai/gpu": ""}
KINDS = {"snapshot": {"yaml"}, "table": {"polars", "parquet"}, "training": {"pytorch", "huggingface"},
         "view": {"polars"}}
POOL = "gpu"
BY_DEFAULT = object()
STUDIO = "/studio/"  # of the server that shows this: 'cai ui' serves it beside Dagster's pages
CHAINS = ("starting_responses", "critiques", "revisions", "response_pairs", "preference_pairs")
PAGES = {**dict.fromkeys(CHAINS, "chains"), "evaluation": "arena"}


class Attributes(TypedDict):
    """The arguments shared by every kind of asset definition."""

    group_name: str
    kinds: set[str]
    owners: list[str]
    code_version: str
    deps: list[dg.AssetDep]
    tags: dict[str, str]
    metadata: dict[str, Any]
    automation_condition: Any


class Arguments(Attributes):
    """The declared arguments of ``@dg.asset``."""

    partitions_def: dg.PartitionsDefinition[str] | None
    pool: str | None


def declared(name: str, *, code_version: str = "1", when: Any = BY_DEFAULT) -> Arguments:
    """The arguments of an asset's ``@dg.asset``. ``when``: its automation condition, if not the default."""
    asset = ASSETS[name]
    return {**_attributes(asset, code_version, when), "partitions_def": versions if asset.versioned else None,
            "pool": POOL if asset.spends else None}


def spec(name: str, *, code_version: str = "1", when: Any = BY_DEFAULT) -> dg.AssetSpec:
    """The same for an asset of a ``@dg.multi_asset``, which sets partitions and pool itself."""
    return dg.AssetSpec(name, description=ASSETS[name].about, **_attributes(ASSETS[name], code_version, when))


def _attributes(asset: Asset, code_version: str, when: Any) -> Attributes:
    return {"group_name": asset.group, "kinds": {"vllm", "polars"} if asset.steps else KINDS[asset.kind],
            "owners": OWNERS, "code_version": code_version, "deps": [_dep(asset, above) for above in asset.reads],
            "tags": TAGS if asset.spends else {}, "metadata": {"studio": dg.MetadataValue.url(_page(asset))},
            "automation_condition": on_real_change(from_the_start=not asset.versioned) if when is BY_DEFAULT else when}


def _page(asset: Asset) -> str:
    """Where the studio shows what an asset holds."""
    return STUDIO + PAGES.get(asset.name, "reports" if asset.group == "evaluation" else "")


def _dep(asset: Asset, above: str) -> dg.AssetDep:
    """An unversioned asset reads every partition of a versioned one."""
    gathers = ASSETS[above].versioned and not asset.versioned
    return dg.AssetDep(above, partition_mapping=dg.AllPartitionMapping() if gathers else None)
