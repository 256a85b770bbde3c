"""Jobs: the whole graph, or one group of it."""

from __future__ import annotations

import dagster as dg

from cai_assets.assets import ASSETS

OURS = dg.AssetSelection.assets(*ASSETS)  # and nobody else's, where they are merged with others
everything = dg.define_asset_job("all", OURS,
                                 description="The whole graph for one constitution version")


def _group(name: str, description: str) -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(name, OURS & dg.AssetSelection.groups(name), description=description)


jobs = [
    everything,
    _group("supervised", "Critiques, revisions, the SL policy"),
    _group("preference", "Response pairs, AI labels, the reward model"),
    _group("reinforcement", "The RL policy"),
    _group("evaluation", "Evaluation of every policy, and the comparison over versions"),
]
