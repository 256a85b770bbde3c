"""The numbers that a finished reinforcement stage leaves, for cards, checks and the reward-hacking monitors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cai_assets.settings import Reinforcement

PREFIX = "eval_held_out_"
PARTS = f"{PREFIX}part/"
ENDS = ("reward", "score", "response_length", "repetition", "margin")


def summary(
    curve: Sequence[dict[str, Any]], state: Any, updates: int, settings: Reinforcement
) -> dict[str, Any]:
    """First and last values of the curves, the held-out measurements, and which step was published.

    ``kl_max`` and ``kl_last`` are in nats per response. DPO does not sample while it trains: its KL, length and
    repetition are those of the held-out prompts. ``reward_outlier_max``: the largest distance of one response's reward
    from the mean of all so far, in standard deviations. ``held_out_reward_last`` is that of the state that was
    published, and so is ``held_out_kl``; ``..._se`` is its standard error, None for a single prompt; ``held_out_n`` the
    number of prompts, 0 where none were held out. ``held_out_parts``: first and last of each part of the reward, where
    it has parts. ``state``: the trainer's, with the log; ``updates`` optimizer updates make one step.
    """
    published = state.best_global_step if settings.best == "reward" else state.global_step
    measured = {row["step"]: row for row in state.log_history if f"{PREFIX}n" in row}
    first, last = measured.get(0, {}), measured.get(published, {})
    held = {f"held_out_reward_{end}{part}": row.get(f"{PREFIX}reward{part}")
            for end, row in (("first", first), ("last", last)) for part in ("", "_se")}
    out: dict[str, Any] = {"steps": len(curve), "published_step": published // updates}
    for name in ENDS:
        out |= {f"{name}_first": curve[0].get(name), f"{name}_last": curve[-1].get(name)}
    sampled = [row for row in curve if "kl" in row]
    out |= _sampled(sampled) if sampled else _measured(first, last)
    if parts := {name.removeprefix(PARTS): {"first": value, "last": last.get(name)}
                 for name, value in first.items() if name.startswith(PARTS)}:
        out["held_out_parts"] = parts
    return out | held | {"held_out_kl": last.get(f"{PREFIX}kl"), "held_out_n": int(last.get(f"{PREFIX}n", 0))}


def _sampled(curve: Sequence[dict[str, Any]]) -> dict[str, float | int | None]:
    return {
        "kl_last": curve[-1]["kl"], "kl_max": max(row["kl"] for row in curve), "beta_last": curve[-1]["beta"],
        "reward_outlier_max": max(row["reward_outlier"] for row in curve),
        "tokens_generated": int(sum(row["tokens"] for row in curve)),
    }


def _measured(first: dict[str, Any], last: dict[str, Any]) -> dict[str, float | int | None]:
    ends = {f"{ours}_{end}": row.get(f"{PREFIX}{name}") for end, row in (("first", first), ("last", last))
            for ours, name in (("response_length", "length"), ("repetition", "repetition"))}
    kl = last.get(f"{PREFIX}kl")
    return {**ends, "kl_last": kl, "kl_max": kl}
