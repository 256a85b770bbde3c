"""Checks of reinforcement learning."""

from __future__ import annotations

from cai_assets.defs.checks.common import Verdict, check
from cai_assets.lineage.records import Record
from cai_assets.project import Project


def kl_within_budget(_: Project, record: Record, __: str | None) -> Verdict:
    metrics, budget = record.details["metrics"], record.settings["rl"]["kl_budget"]
    kl = metrics["kl_max"]
    return kl <= budget, f"largest KL to the SL policy {kl:.4f}, budget {budget:g}", {"kl_max": kl, "budget": budget}


checks = [
    check("rl_policy", "kl_within_budget", kl_within_budget,
          description="The RL policy stayed within the KL budget of the SL policy"),
]
