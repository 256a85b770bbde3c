"""What a run would draw principles for, by the settings alone: no model is asked, and no response is needed."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from cai_assets.constitution.lint import Draws
from cai_assets.settings import Settings
from cai_assets.steps.pair import pairings


def draws_of(settings: Settings, prompts: pl.DataFrame) -> list[Draws]:
    """For each use in which principles are drawn. ``prompts``: those that take part, as ``prompts.select`` gives them.

    Chains that end early and prompts whose response fails draw less than this.
    """
    train, scale = prompts.filter(split="train"), f"at scale {settings.scale}"
    red_team = train.filter(kind="red-team")["prompt_id"].to_list()
    held_apart = prompts.filter(split="evaluation")["prompt_id"].to_list()
    rounds = settings.critique.rounds
    draws = [Draws("critique", red_team, f"{len(red_team)} prompts in {rounds} rounds {scale}", rounds)]
    if settings.labels.principles == "drawn":
        pairs = _pairs(settings, train)
        draws.append(Draws("preference", pairs, f"{len(pairs)} pairs {scale}"))
    return [*draws, Draws("evaluation", held_apart, f"{len(held_apart)} prompts {scale}")]


def _pairs(settings: Settings, train: pl.DataFrame) -> Sequence[str]:
    of_revisions = settings.pairs.source == "revision"
    numbers = ["0"] if of_revisions else [number for number, _, _ in pairings(settings.pairs)]
    helpful = settings.pairs.helpful and not of_revisions
    ids = (train if helpful else train.filter(kind="red-team"))["prompt_id"].to_list()
    return [f"{i}-{number}" for i in ids for number in numbers]
