from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("transformers")

from tiny_models import tiny_tokenizer, user

from cai_assets.engines.templating import Templater
from cai_assets.train.data import encode, pair_rows, preference_rows, prompt_rows, read_rows, supervised_rows
from cai_assets.train.fit import CUT, DROPPED, READ, metrics, too_long
from cai_assets.train.problems import TrainingProblem

WORD = st.sampled_from(["red", "blue", "red blue", "one two three", "yes " * 9])
TURN = st.tuples(st.sampled_from(["user", "assistant"]), WORD)
TEMPLATER = Templater(tiny_tokenizer())


def turns(*said: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in said]


@given(st.booleans(), st.lists(TURN, max_size=4), WORD, st.lists(WORD, min_size=1, max_size=2), st.integers(4, 40))
def test_a_prompt_loses_whole_turns_and_a_response_nothing(
    led: bool, earlier: list[tuple[str, str]], last: str, responses: list[str], size: int
) -> None:
    head = turns(("system", "good"))[: int(led)]
    messages = [*head, *turns(*earlier, ("user", last))]
    whole = [TEMPLATER.encode_response(messages, r) for r in responses]
    room = size - max(len(ids) for _, ids in whole)
    one = encode(messages, responses, TEMPLATER, size)
    shortest = TEMPLATER.encode_chat([*head, *turns(("user", last))])
    assert (one is None) == (len(shortest) > room)
    if one is None:
        return
    assert one.responses == [ids for _, ids in whole]
    assert one.cut == (len(whole[0][0]) > room)
    assert len(one.prompt) <= room
    begun = TEMPLATER.encode_chat(head, add_generation_prompt=False) if head else []
    assert one.prompt[: len(begun)] == begun
    kept = one.prompt[len(begun) :]
    assert whole[0][0][-len(kept) :] == kept
    assert one.cut is False or TEMPLATER.tokenizer.convert_ids_to_tokens(kept)[:2] == ["<|im_start|>", "user"]


def test_a_long_conversation_loses_as_few_of_its_earliest_turns_as_it_must() -> None:
    row = {"messages": turns(("system", "good"), ("user", "red " * 9), ("assistant", "one"), ("user", "blue"),
                             ("assistant", "two"), ("user", "help")), "response": "yes"}
    later = TEMPLATER.encode_chat([row["messages"][0], *row["messages"][3:]])
    whole = TEMPLATER.encode_chat(row["messages"])
    for size, prompt, counted in ((len(whole) + 2, whole, {}), (len(whole) + 1, later, {("rows", CUT): 1}),
                                  (len(later) + 2, later, {("rows", CUT): 1})):
        [out], fit = supervised_rows([row], TEMPLATER, size)
        assert out["input_ids"][:-2] == prompt
        assert fit == Counter({("rows", READ): 1, **counted})
    assert supervised_rows([row], TEMPLATER, 8) == ([], Counter({("rows", READ): 1, ("rows", DROPPED): 1}))


def test_labels_are_exactly_the_response_with_its_end_of_turn() -> None:
    tokenizer = tiny_tokenizer()
    [row], fit = supervised_rows([{"messages": user("hello"), "response": "yes no"}], Templater(tokenizer), 32)
    trained = [label for label in row["labels"] if label != -100]
    assert tokenizer.convert_ids_to_tokens(trained) == ["yes", "no", "<|im_end|>"]
    assert row["input_ids"][-len(trained) :] == trained
    assert len(row["labels"]) == len(row["input_ids"])
    assert metrics(fit) == {"rows_read": 1, "rows_cut": 0, "rows_dropped": 0,
                            "fit": {"rows": {"read": 1, "cut": 0, "dropped": 0}}}
    assert too_long(metrics(fit), "sl.max_length=32") == ""


def test_a_long_turn_and_a_long_response_are_left_out_and_counted_by_kind() -> None:
    rows = [{"messages": user("red " * 50), "response": "yes", "part": "general"},
            {"messages": user("red"), "response": "yes " * 50, "part": "helpful"},
            {"messages": turns(("user", "red " * 9), ("assistant", "no"), ("user", "blue")), "response": "yes no",
             "part": "general"}]
    [out], fit = supervised_rows(rows, Templater(tiny_tokenizer()), 16)
    assert [x for x in out["labels"] if x != -100] == out["input_ids"][-3:]
    assert metrics(fit)["fit"] == {"general": {"read": 2, "cut": 1, "dropped": 1},
                                   "helpful": {"read": 1, "cut": 0, "dropped": 1}}
    assert too_long(metrics(fit), "sl.max_length=16") == (
        "2 of 3 rows dropped and 1 without their earliest turns: they are longer than sl.max_length=16 "
        "(general: 1 and 1 of 2; helpful: 1 and 0 of 1)")


def test_both_responses_of_a_pair_follow_the_same_prompt() -> None:
    row = {"messages": turns(("system", "good"), ("user", "red " * 50), ("assistant", "no"), ("user", "blue")),
           "chosen": "yes yes yes", "rejected": "no", "p_chosen": 0.8, "held_out": True, "part": "human"}
    [out], fit = preference_rows([row], Templater(tiny_tokenizer()), 24)
    assert (out["index"], fit) == (0, Counter({("human", READ): 1, ("human", CUT): 1}))
    assert out["chosen_ids"][:-4] == out["rejected_ids"][:-2]
    assert (out["p_chosen"], out["held_out"]) == (0.8, True)
    assert TEMPLATER.tokenizer.convert_ids_to_tokens(out["chosen_ids"])[:4] == ["<|im_start|>", "<unk>", "good",
                                                                                "<|im_end|>"]
    left_out = Counter({("human", READ): 1, ("human", DROPPED): 1})
    assert preference_rows([row | {"rejected": "no " * 20}], Templater(tiny_tokenizer()), 24) == ([], left_out)
    assert pair_rows([row], TEMPLATER, 24)[1] == Counter({("pairs", READ): 1, ("pairs", CUT): 1})


def test_sampling_prompts_end_with_the_turn_of_the_assistant() -> None:
    tokenizer = tiny_tokenizer()
    long = turns(("user", "red " * 50), ("assistant", "no"), ("user", "blue"))
    [row], fit = prompt_rows([{"messages": long, "request": "help"}, {"messages": user("red " * 50), "request": "no"}],
                             Templater(tokenizer), 8, columns=("request",))
    assert tokenizer.convert_ids_to_tokens(row["prompt"]) == [
        "<|im_start|>", "user", "blue", "<|im_end|>", "<|im_start|>", "assistant"]
    assert row["request"] == "help"
    assert fit == Counter({("prompts", READ): 2, ("prompts", CUT): 1, ("prompts", DROPPED): 1})


def test_missing_files_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingProblem, match="no training data at"):
        read_rows(tmp_path / "none.parquet", ["messages"])
    pl.DataFrame({"messages": [["x"]]}).write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(TrainingProblem, match=r"lacks the column\(s\) response"):
        read_rows(tmp_path / "rows.parquet", ["messages", "response"])
