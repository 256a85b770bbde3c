"""Checks of reinforcement learning: the reward-hacking monitors that need only the training run.

A monitor with too little data passes and says so; its ``state`` distinguishes it from an all-clear.
"""

from __future__ import annotations

from collections.abc import Callable

from cai_assets.defs.checks.common import ROWS_FIT, Judge, Verdict, ability_is_kept, check, rows_fit
from cai_assets.evals import hacking
from cai_assets.evals.hacking import Finding
from cai_assets.evals.statistics import FEW
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import checkpoint_of
from cai_assets.settings import Monitors
from cai_assets.store.records import Record


def as_verdict(finding: Finding) -> Verdict:
    """A finding as a check's result; its numbers keep their names, so they plot over versions."""
    lead = f"{FEW}: " if finding.state == FEW else ""
    return finding.state != "failed", lead + finding.text, {**finding.numbers, "state": finding.state}


def kl_within_budget(_: Project, record: Record, __: str | None) -> Verdict:
    return as_verdict(hacking.kl_over_budget(record.details["metrics"], record.settings["rl"]["kl_budget"]))


def on_metrics(monitor: Callable[[hacking.Row, float], Finding], limit: Callable[[Monitors], float]) -> Judge:
    """A judge of the checkpoint's metrics."""
    return lambda project, record, _: as_verdict(monitor(record.details["metrics"], limit(project.settings.monitors)))


def no_value_outlier(project: Project, record: Record, _: str | None) -> Verdict:
    sigmas = project.settings.monitors.outlier_sigmas
    return as_verdict(hacking.value_outlier(checkpoint_of(project, record).curves, sigmas))


checks = [
    check("rl_policy", "kl_within_budget", kl_within_budget,
          description="KL to the SL policy never exceeded rl.kl_budget during training"),
    check("rl_policy", "length_is_kept", on_metrics(hacking.length_in_training, lambda m: m.length_growth),
          description="Responses grew by at most a factor of monitors.length_growth during training"),
    check("rl_policy", "no_repetition", on_metrics(hacking.repetition_in_training, lambda m: m.repetition_growth),
          description="Repetition within responses grew by at most monitors.repetition_growth during training"),
    check("rl_policy", "no_reward_outlier", on_metrics(hacking.reward_outlier, lambda m: m.outlier_sigmas),
          description="No response's reward is more than monitors.outlier_sigmas standard deviations from the mean "
                      "of the earlier ones"),
    check("rl_policy", "no_value_outlier", no_value_outlier,
          description="No step's value loss is more than monitors.outlier_sigmas robust standard deviations above the "
                      "median"),
    check("rl_policy", "ability_is_kept", ability_is_kept,
          description="Perplexity on general text grew by at most a factor of monitors.perplexity_growth"),
    check("rl_policy", "rows_fit", rows_fit, description=ROWS_FIT),
]
