"""The sections on training: whether the reward was hacked, and the curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from cai_assets.assets import CHECKPOINTS
from cai_assets.evals import hacking
from cai_assets.evals.hacking import Finding
from cai_assets.reports.html.curves import Curve, describe, small_multiples
from cai_assets.reports.html.page import Block, Figure, Missing, Source, Table, Text, Told
from cai_assets.reports.html.plots import both
from cai_assets.reports.version.evidence import Evidence
from cai_assets.reports.version.policies import name_of

NAMES = {
    "loss": "loss", "accuracy": "accuracy on training pairs, share", "reward": "reward minus KL penalty",
    "score": "reward", "held_out_reward": "reward on held-out prompts",
    "kl": "KL to the SL policy, nats per response", "policy_loss": "policy loss", "value_loss": "value loss",
    "sl_loss": "SL loss, nats per token", "margin": "margin of rewards", "response_length": "tokens per response",
    "repetition": "repetition, share", "entropy": "entropy, nats",
}
OF_REWARD_MODEL = {"reward": "reward, both responses"}


def monitors(evidence: Evidence) -> list[tuple[str, Finding]]:
    """Every reward-hacking monitor that the records can feed, with where it looked."""
    rl = evidence.record("rl_policy")
    if rl is None:
        return []
    metrics, checkpoint = rl.details.get("metrics", {}), evidence.checkpoint("rl_policy")
    budget = float(rl.settings.get("rl", {}).get("kl_budget", float("inf")))
    curves = checkpoint.curves if checkpoint else []
    findings = [("training", f) for f in hacking.in_training(metrics, curves, evidence.limits, kl_budget=budget)]
    if evidence.rows is not None:
        findings += [("evaluation", f) for f in hacking.in_evaluation(evidence.rows, metrics, evidence.limits,
                                                                      evidence.confidence)]
    return findings


def hacked(evidence: Evidence) -> Iterator[Block]:
    """The monitors as a table."""
    if evidence.record("rl_policy") is None:
        yield Missing("there is no RL policy yet.", evidence.make("rl_policy"))
        return
    if evidence.rows is None:
        yield Missing("without an evaluation, only the training monitors are available.", evidence.make("evaluation"))
    rows = [(f.name.replace("_", " "), where, Told(f.state), f.text) for where, f in monitors(evidence)]
    yield Table("Reward-hacking monitors", ("monitor", "measured in", "state", "finding"), rows,
                note="A monitor fails only if its entire interval is beyond the limit. 'too few to tell' is not an "
                     "all-clear. proxy against gold: the reward rose while the judge's verdict or the relevance fell.",
                source=Source(f"cai report {evidence.side.name}", ", ".join(filter(None, (
                    evidence.rests_on("rl_policy"), evidence.rests_on("evaluation"))))))


def curves(evidence: Evidence) -> Iterator[Block]:
    """What each training logged."""
    for asset in (name for name in CHECKPOINTS if name not in evidence.absent):
        checkpoint, record = evidence.checkpoint(asset), evidence.record(asset)
        if record is None:
            yield Missing(f"{asset} has not been trained yet.", evidence.make(asset))
        elif checkpoint is None:
            yield Missing(f"the checkpoint of {asset} and its curves are gone.", evidence.make(asset))
        else:
            names = NAMES | (OF_REWARD_MODEL if asset == "reward_model" else {})
            drawn = logged(checkpoint.curves, names)
            if not drawn:
                yield Text(f"The {name_of(asset)} training run logged fewer than two steps, so there is no curve.")
                continue
            yield Figure(both(partial(small_multiples, drawn)), f"Training of the {name_of(asset)}",
                         "Each with its own scale. The end of the curve is marked.", reproduce=evidence.make(asset),
                         rests_on=evidence.rests_on(asset, f"{record.rows} training rows"),
                         words="; ".join(f"{name}: {describe(curve)}" for name, curve in drawn.items()) + ".")


def logged(rows: list[dict[str, object]], names: Mapping[str, str]) -> dict[str, Curve]:
    """The named curves among what was logged, by step; one of a single step is none."""
    curves: dict[str, Curve] = {}
    for key, name in names.items():
        curve = [(float(str(r["step"])), float(str(r[key]))) for r in rows if r.get(key) is not None]
        if len(curve) > 1:
            curves[name] = curve
    return curves
