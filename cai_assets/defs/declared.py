"""An asset for Dagster, from its declaration in ``assets.py`` and the function that makes it."""

from collections.abc import Callable
from inspect import getdoc
from typing import Any, TypedDict

import dagster as dg

from cai_assets.assets import ASSETS, Asset
from cai_assets.defs.automation import on_real_change
from cai_assets.defs.partitions import versions
from cai_assets.defs.run import Run
from cai_assets.pipeline.project import Project

Make = Callable[[Run], dg.MaterializeResult[None]]
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


def asset(name: str, *, code_version: str = "1", when: Any = BY_DEFAULT, op_tags: dict[str, str] | None = None
          ) -> Callable[[Make], dg.AssetsDefinition]:
    """``@dg.asset`` of a declared asset, for a function of its ``Run``; a version that lacks the asset says so instead.
    ``when``: its automation condition, if not the default."""
    found = ASSETS[name]

    def define(make: Make) -> dg.AssetsDefinition:
        def materialize(context: dg.AssetExecutionContext, project: dg.ResourceParam[Project]
                        ) -> dg.MaterializeResult[None]:
            run = Run(context, project)
            return run.leave_out(name) or make(run)

        return dg.asset(name=name, description=getdoc(make), partitions_def=versions if found.versioned else None,
                        pool=POOL if found.spends else None, op_tags=op_tags,
                        **_attributes(found, code_version, when))(materialize)

    return define


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
