from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("transformers")

from tiny_models import tiny_tokenizer, user

from cai_assets.engines.templating import Templater
from cai_assets.train.data import fit, preference_rows, prompt_rows, read_rows, supervised_rows
from cai_assets.train.problems import TrainingProblem

ids = st.lists(st.integers(0, 9), max_size=12)


@given(ids, st.lists(ids, min_size=1, max_size=2), st.integers(1, 16))
def test_a_prompt_loses_its_beginning_and_a_response_nothing(
    prompt: list[int], responses: list[list[int]], size: int
) -> None:
    kept = fit(prompt, responses, size)
    longest = max(map(len, responses))
    if kept is None:
        assert not prompt or longest >= size
    else:
        assert kept
        assert prompt[-len(kept) :] == kept
        assert len(kept) == min(len(prompt), size - longest)


def test_labels_are_exactly_the_response_with_its_end_of_turn() -> None:
    tokenizer = tiny_tokenizer()
    [row], dropped = supervised_rows([{"messages": user("hello"), "response": "yes no"}], Templater(tokenizer), 32)
    trained = [label for label in row["labels"] if label != -100]
    assert tokenizer.convert_ids_to_tokens(trained) == ["yes", "no", "<|im_end|>"]
    assert row["input_ids"][-len(trained) :] == trained
    assert len(row["labels"]) == len(row["input_ids"])
    assert dropped == 0


def test_a_long_prompt_is_shortened_and_a_long_response_is_counted() -> None:
    rows = [{"messages": user("red " * 50), "response": "yes"}, {"messages": user("red"), "response": "yes " * 50}]
    out, dropped = supervised_rows(rows, Templater(tiny_tokenizer()), 16)
    assert (len(out), dropped) == (1, 1)
    assert len(out[0]["input_ids"]) == 16
    assert [x for x in out[0]["labels"] if x != -100] == out[0]["input_ids"][-2:]


def test_both_responses_of_a_pair_follow_the_same_prompt() -> None:
    row = {"messages": user("red " * 50), "chosen": "yes yes yes", "rejected": "no", "p_chosen": 0.8, "held_out": True}
    [out], dropped = preference_rows([row], Templater(tiny_tokenizer()), 16)
    assert (out["index"], dropped) == (0, 0)
    assert out["chosen_ids"][:-4] == out["rejected_ids"][:-2]
    assert (out["p_chosen"], out["held_out"]) == (0.8, True)
    assert preference_rows([row | {"rejected": "no " * 20}], Templater(tiny_tokenizer()), 16) == ([], 1)


def test_sampling_prompts_end_with_the_turn_of_the_assistant() -> None:
    tokenizer = tiny_tokenizer()
    [row] = prompt_rows([{"messages": user("red " * 50)}], Templater(tokenizer), 8)
    assert len(row["prompt"]) == 8
    assert tokenizer.convert_ids_to_tokens(row["prompt"])[-2:] == ["<|im_start|>", "assistant"]


def test_missing_files_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingProblem, match="no training data at"):
        read_rows(tmp_path / "none.parquet", ["messages"])
    pl.DataFrame({"messages": [["x"]]}).write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(TrainingProblem, match=r"lacks the column\(s\) response"):
        read_rows(tmp_path / "rows.parquet", ["messages", "response"])
