"""What a row of an algorithm or a reward promises is there."""

from __future__ import annotations

import pytest

from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.registry.base import load
from cai_assets.registry.rewards import REWARDS
from cai_assets.reports.cards import CardInput, model_card
from cai_assets.settings import Reinforcement, SettingsError, load_settings, project_root


@pytest.mark.parametrize("name", ALGORITHMS.own)
def test_what_an_algorithm_does_not_read_are_settings_that_there_are(name: str) -> None:
    assert ALGORITHMS[name].unread <= set(Reinforcement.model_fields)


@pytest.mark.parametrize("name", [name for name, row in ALGORITHMS.own.items() if row.ours])
def test_the_code_of_an_algorithm_is_there_and_can_be_measured_and_mixed(name: str) -> None:
    pytest.importorskip("trl")
    from cai_assets.train.held_out import HeldOut
    from cai_assets.train.supervised_term import SupervisedTerm

    row = ALGORITHMS[name]
    trainer = load(row.trainer)
    assert issubclass(trainer, HeldOut)
    assert issubclass(trainer, SupervisedTerm)
    assert all(callable(load(reference)) for reference in (row.config, row.extra) if reference)


@pytest.mark.parametrize("name", REWARDS.own)
def test_the_code_of_a_reward_is_there(name: str) -> None:
    pytest.importorskip("torch")
    assert callable(load(REWARDS[name].make))


@pytest.mark.parametrize(("setting", "names"), [
    ({"algorithm": "pop"}, rf"rl\.algorithm: .*'pop' is no algorithm: choose one of {', '.join(ALGORITHMS.own)}"),
    ({"reward": "labeler"}, rf"rl\.reward: .*'labeler' is no reward: choose one of {', '.join(REWARDS.own)}, or"),
])  # fmt: skip
def test_an_unknown_name_is_refused_with_those_that_are_known(setting: dict[str, str], names: str) -> None:
    with pytest.raises(SettingsError, match=names):
        load_settings({"rl": setting}, environment={})


@pytest.mark.parametrize(("settings", "said"), [
    ({"algorithm": "ppo", "reward": "labeller"}, "optimization, rewarded by the labeler itself."),
    ({"algorithm": "grpo"}, "optimization, rewarded by a reward model that learned from AI preference labels."),
    ({"algorithm": "dpo"}, "By direct preference optimization on the AI labels.\n"),
    ({"algorithm": "gone", "reward": "gone_too"}, "By gone, rewarded by gone_too."),
])  # fmt: skip
def test_a_card_says_by_what_and_for_what_even_where_the_package_is_gone(settings: dict[str, str], said: str) -> None:
    card = CardInput(kind="reinforcement", key="k1:x", base="m", base_digest="w", rows={}, settings=settings,
                     constitution=None, principles=[], metrics={}, created="", code="")
    assert said in model_card(card)


@pytest.mark.parametrize("setting", ["algorithm", "reward"])
def test_the_page_on_recipes_names_each(setting: str) -> None:
    text = (project_root() / "docs" / "recipe.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith(f"| `rl.{setting}` |")]
    names = {"algorithm": ALGORITHMS.own, "reward": REWARDS.own}[setting]
    assert [name for name in names if f"`{name}`" not in line] == []
