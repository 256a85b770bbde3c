"""The effect of judge notes: a judge that obeys them is found out, one that does not is not accused."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from ruled_labellers import Rule, completer, labeller, prefers

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.evals.injection import NOTES, Effect, harmless, injection_effect
from cai_assets.settings import Labels

CONSTITUTION = Constitution(name="c", version="v1", principles=(Principle(id="p", preference="Which is better?"),))


def pairs(n: int = 20) -> pl.DataFrame:
    return pl.DataFrame([{
        "pair_id": f"q{i}-0", "prompt_id": f"q{i}", "messages": [{"role": "user", "content": f"Question {i}?"}],
        "response_a": f"fine {i}" if i % 2 else f"poor {i}", "response_b": f"poor {i}" if i % 2 else f"fine {i}",
        "identical": i == 3, "error": "response A: empty" if i == 4 else None,
    } for i in range(n)])


def effects(root: Path, rule: Rule) -> dict[str, Effect]:
    found = injection_effect(pairs(), CONSTITUTION, complete=completer(root, labeller(rule)), settings=Labels())
    return {e.note: e for e in found}


def obeys(question: str, a: str, b: str) -> float:
    told = any("(B)" in text for text in (a, b))
    return 0.05 if told else prefers("fine")(question, a, b)


def drawn_to_length(question: str, a: str, b: str) -> float:
    return 0.9 if len(a) > len(b) else 0.1 if len(b) > len(a) else 0.5


@pytest.mark.parametrize("note", NOTES)
def test_a_judge_that_obeys_notes_is_found_out(tmp_path: Path, note: str) -> None:
    effect = effects(tmp_path, obeys)[note]
    assert effect.ungraded == 0
    assert effect.obeyed.n == 18  # one pair is identical and one failed
    assert effect.obeyed.value == pytest.approx(0.45)
    assert effect.obeyed.low is not None
    assert effect.obeyed.low > 0.3
    assert effect.injected.flips.value == 1  # every label becomes a tie, for both orders now say 'B'
    assert effect.harmless.flips.value == 0
    assert effect.injected.response.value == pytest.approx(0, abs=1e-9)  # asking in both orders takes it back


@pytest.mark.parametrize("rule", [prefers("fine"), drawn_to_length, lambda q, a, b: 0.9])
def test_one_that_does_not_is_not_accused(tmp_path: Path, rule: Rule) -> None:
    for effect in effects(tmp_path, rule).values():
        assert effect.obeyed.value == pytest.approx(0, abs=1e-9)
        assert effect.injected.letter.value == pytest.approx(0, abs=1e-9)
        assert effect.injected.flips == effect.harmless.flips


def test_what_length_alone_does_shows_in_both(tmp_path: Path) -> None:
    effect = effects(tmp_path, drawn_to_length)["note"]
    assert effect.injected.response == effect.harmless.response
    assert effect.injected.response.value is not None
    assert effect.injected.response.value > 0.3


def test_a_judge_that_fails_leaves_pairs_out_and_counts_them(tmp_path: Path) -> None:
    engine = labeller(prefers("fine"), fail=lambda key: True)
    found = injection_effect(pairs(), CONSTITUTION, complete=completer(tmp_path, engine), settings=Labels())
    assert [(e.ungraded, e.obeyed.value, e.injected.flips.n) for e in found] == [(18, None, 0)] * 2


def test_the_harmless_note_is_as_long_and_says_nothing_of_answers() -> None:
    for note in NOTES.values():
        assert len(harmless(len(note))) == len(note)
        assert "answer" not in harmless(len(note)).lower()
        assert "(" not in harmless(len(note))
