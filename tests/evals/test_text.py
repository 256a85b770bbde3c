"""Lexical measures: echo, distinctness, relevance and its zero line."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_assets.evals.text import distinct, echo_rate, relevance, relevance_with_zero_line, words

PROMPTS = ["How do I bake sourdough bread at home?", "Which planets have rings?", "Write a poem about a lighthouse."]
ANSWERS = ["To bake sourdough bread, feed the starter first.", "Saturn's rings are the brightest of the planets.",
           "The lighthouse stands, a poem of light."]


def test_echo_is_the_share_of_copied_five_grams():
    source = "please rewrite the response to remove all harmful content"
    assert echo_rate(source, [source]) == 1
    assert echo_rate("Please, rewrite the RESPONSE to", [source]) == 1
    # Six words make two 5-grams; only the first is in the source.
    assert echo_rate("please rewrite the response to sender", [source]) == 0.5
    assert echo_rate("something else entirely is said right here", [source]) == 0


def test_echo_of_a_short_text_or_without_sources_is_zero():
    assert echo_rate("please rewrite the response", ["please rewrite the response"]) == 0
    assert echo_rate("one two three four five six", []) == 0
    assert echo_rate("", ["one two three four five"]) == 0


def test_echo_does_not_join_two_sources():
    assert echo_rate("a b c d e f", ["a b c", "d e f"]) == 0


@given(st.text(), st.lists(st.text(), max_size=3))
def test_echo_is_a_share(text, sources):
    assert 0 <= echo_rate(text, sources) <= 1


def test_distinct_counts_texts_once():
    assert distinct(["A b", "a  b", "c", "d"]) == 0.75
    assert distinct(["x", "X ", "x"]) == pytest.approx(1 / 3)
    assert distinct([]) is None


def test_words_leave_punctuation_out():
    assert words("Don't stop -- it's 5 o'clock!") == ["don't", "stop", "it's", "5", "o'clock"]


def test_answers_are_nearer_to_their_own_prompt_than_to_others():
    own, others = relevance_with_zero_line(PROMPTS, ANSWERS)
    assert all(o > z for o, z in zip(own, others, strict=True))
    assert relevance(PROMPTS, ANSWERS) == own


def test_answers_joined_to_the_wrong_prompts_show():
    right = sum(relevance(PROMPTS, ANSWERS))
    wrong = sum(relevance(PROMPTS, ANSWERS[1:] + ANSWERS[:1]))
    assert right > 3 * wrong


def test_the_zero_line_is_the_mean_cosine_to_every_other_different_prompt():
    repeated = [*PROMPTS, PROMPTS[0]]
    result = relevance_with_zero_line(repeated, [*ANSWERS, ANSWERS[0]])
    assert result.own[3] == pytest.approx(result.own[0])
    assert result.others[3] == pytest.approx(result.others[0])
    copy = relevance_with_zero_line(PROMPTS, PROMPTS)
    assert copy.own == pytest.approx([1, 1, 1])
    assert max(x for x in copy.others if x is not None) < 0.5


def test_one_prompt_has_no_zero_line():
    assert relevance_with_zero_line(PROMPTS[:1], ANSWERS[:1]).others == [None]


@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["?!", "—"], ["🙂", ""]])
def test_texts_without_words_have_no_relevance(texts):
    assert relevance(texts, texts) == [0.0] * len(texts)


def test_an_empty_response_has_relevance_zero():
    assert relevance(PROMPTS, ["", *ANSWERS[1:]])[0] == 0


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="3 prompts but 2 responses"):
        relevance(PROMPTS, ANSWERS[:2])


@settings(max_examples=30)
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), max_size=5))
def test_any_texts_give_a_cosine_in_range(pairs):
    own, others = relevance_with_zero_line([p for p, _ in pairs], [r for _, r in pairs])
    assert len(own) == len(others) == len(pairs)
    assert all(0 <= x <= 1 and math.isfinite(x) for x in [*own, *(o for o in others if o is not None)])
