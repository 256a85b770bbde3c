"""What a row means: the prompt in it and the answer to it, in the spellings that people publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cai_assets.reading.faults import DataError, RowFault
from cai_assets.reading.files import Raw
from cai_assets.reading.rows import conversation_of, prompt_of
from cai_assets.settings import Settings
from cai_assets.settings.columns import Columns
from cai_assets.steps.mix import conversation
from cai_assets.steps.prompt_rows import check_row
from cai_assets.steps.prompts import Loaded, load_prompts

TALK = [("user", "Which river is longest in Portugal?"), ("assistant", "The Tagus."), ("user", "And in Spain?")]
END = ("assistant", "Also the Tagus.")
NAMES = {"user": "human", "assistant": "gpt", "system": "system"}


def messages(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in turns]


def sharegpt(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": NAMES[role], "value": text} for role, text in turns]


def transcript(*turns: tuple[str, str]) -> str:
    return "".join(f"\n\n{'Human' if role == 'user' else 'Assistant'}: {text}" for role, text in turns)


@pytest.mark.parametrize("row", [
    {"messages": messages(*TALK)}, {"messages": messages(*TALK, END)}, {"prompt": messages(*TALK)},
    {"conversations": sharegpt(*TALK, END)}, {"conversation": messages(*TALK, END), "turn": 2, "model": "m"},
    {"messages": json.dumps(messages(*TALK, END))}, {"messages": str(messages(*TALK, END))},
    {"conversations": json.dumps(sharegpt(*TALK, END))}, {"prompt": transcript(*TALK)},
    {"prompt": transcript(*TALK, ("assistant", ""))}, {"text": transcript(*TALK, END)},
    {"data": [text for _, text in (*TALK, END)]}, {"messages": [text for _, text in TALK]},
    {"chosen": transcript(*TALK, END), "rejected": transcript(*TALK, ("assistant", "No."))},
    {"chosen": messages(*TALK, END), "rejected": messages(*TALK, ("assistant", "No."))},
    {"prompt": "Which is right? (A) (B)", "text_correct": transcript(*TALK, END), "text_incorrect": transcript(*TALK)},
    {"conversation_a": messages(*TALK, END), "conversation_b": messages(*TALK, END), "winner": "tie"},
    {"transcript": transcript(*TALK, END), "rating": 1.0, "task_description": "x"},
    {"context": messages(*TALK), "response1": "a", "response2": "b"},
    {"instruction": "And in Spain?", "input": "", "history": [["Which river is longest in Portugal?", "The Tagus."]]},
    {"question": "And in Spain?", "history": json.dumps([["Which river is longest in Portugal?", "The Tagus."]])},
    {"messages": {"role": [r for r, _ in TALK], "content": [t for _, t in TALK]}},
    {"prompt": "And in Spain?", "history": messages(*TALK[:2])},
    {"messages": [{"role": "User", "content": TALK[0][1]}, {"role": "model", "content": TALK[1][1]},
                  {"role": None, "content": None, "from": "human", "value": TALK[2][1]}]},
    {"messages": [{"role": r, "content": [{"type": "text", "text": t, "image_url": None}]} for r, t in TALK]},
    {"messages": [{"role": r, "content": [{"type": "text", "value": t}], "loss_weight": 1.0} for r, t in (*TALK, END)]},
])
def test_one_conversation_in_every_spelling(row: dict[str, Any]) -> None:
    assert prompt_of(row) == tuple(messages(*TALK))


@pytest.mark.parametrize(("row", "turns"), [
    ({"instruction": "Who is the tenant?", "context": "It is let to Ada Brook.", "response": "Ada Brook"},
     [("user", "It is let to Ada Brook.\n\n---\n\nWho is the tenant?")]),
    ({"system": "Be brief.", "question": "Why?"}, [("system", "Be brief."), ("user", "Why?")]),
    ({"system_prompt": "Be brief.", "question": "Why?"}, [("system", "Be brief."), ("user", "Why?")]),
    ({"system": "Be brief.", "conversations": sharegpt(("user", "Why?"), ("assistant", "So."))},
     [("system", "Be brief."), ("user", "Why?")]),
    ({"system": "Be brief.", "messages": messages(("system", "Be brief."), ("user", "Why?"))},
     [("system", "Be brief."), ("user", "Why?")]),
    ({"system": " ", "context": "", "prompt": "Why?"}, [("user", "Why?")]),
    ({"messages": messages(("system", ""), ("user", "Why?"))}, [("user", "Why?")]),
    ({"context": ["One.", "Two."], "question": "Why?"}, [("user", "One.\n\nTwo.\n\n---\n\nWhy?")]),
    ({"messages": messages(("developer", "Be brief."), ("user", "Why?"))}, [("system", "Be brief."), ("user", "Why?")]),
    ({"instruction": "Translate.", "input": "Good morning", "output": "Bonjour"},
     [("user", "Translate.\n\nGood morning")]),
    ({"messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is"}, {"type": "text", "text": "a fjord?"}]}]},
     [("user", "What is\na fjord?")]),
    ({"prompt": "Shorten this.", "input": "A long text."}, [("user", "Shorten this.\n\nA long text.")]),
    ({"prompt": "Shorten: A long text.", "input": "A long text."}, [("user", "Shorten: A long text.")]),
    ({"goal": "Tell a lie", "target": "Sure"}, [("user", "Tell a lie")]),
    ({"prompt": '{"role": "system", "content": "obey"}'}, [("user", '{"role": "system", "content": "obey"}')]),
    ({"prompt": '[{"a": 1}] is JSON. Why?'}, [("user", '[{"a": 1}] is JSON. Why?')]),
    ({"prompt": "Human: hello"}, [("user", "Human: hello")]),
])
def test_what_belongs_to_a_prompt_is_in_it(row: dict[str, Any], turns: list[tuple[str, str]]) -> None:
    assert prompt_of(row) == tuple(messages(*turns))


@pytest.mark.parametrize(("row", "reason"), [
    ({"messages": [*messages(("user", "What is this?")), {"role": "user", "content": [
        {"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "data:"}}]}]},
     "part of type 'image_url'"),
    ({"messages": [*messages(TALK[0]), {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
     "calls a tool"),
    ({"messages": messages(TALK[0], ("tool", "3 C"), TALK[2])}, "found 'tool': turns of tools are not read"),
    ({"conversations": [{"from": "function_call", "value": "{}"}]}, "turns of tools are not read"),
    ({"conversations": [{"from": "bing", "value": "Hello"}]}, "role must be system, user or assistant, found 'bing'"),
    ({"system": "One.", "messages": messages(("system", "Two."), ("user", "Why?"))}, "two system texts"),
    ({"system": {"text": "x"}, "prompt": "Why?"}, "'system' must be text, found an object"),
    ({"context": {"a": 1}, "prompt": "Why?"}, "'context' must be text, found an object"),
    ({"prompt": ["one", "two"]}, "prompt[0]: expected an object"),
    ({"role": "tool", "text": "3 C"}, "turns of tools are not read"),
    ({"history": [["only one"]], "instruction": "x"}, "'history' must be a list of exchanges"),
    ({"history": "we spoke of fens", "question": "Where?"}, "'history' must be a list of exchanges"),
    ({"ask": "x", "reply": "y"}, "the columns are ask, reply; 'columns' can name another"),
])
def test_what_has_no_meaning_is_set_aside_with_the_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowFault) as fault:
        prompt_of(row)
    assert reason in str(fault.value)


@pytest.mark.parametrize(("row", "turns", "answer"), [
    ({"instruction": "Who?", "context": "Ada.", "response": "Ada"}, [("user", "Ada.\n\n---\n\nWho?")], "Ada"),
    ({"system": "Be brief.", "conversations": sharegpt(("user", "Why?"), ("assistant", "So."))},
     [("system", "Be brief."), ("user", "Why?")], "So."),
    ({"text": transcript(*TALK, END)}, TALK, END[1]), ({"messages": json.dumps(messages(*TALK, END))}, TALK, END[1]),
])
def test_an_answer_keeps_all_of_its_prompt(row: dict[str, Any], turns: list[tuple[str, str]], answer: str) -> None:
    assert conversation_of(row) == (tuple(messages(*turns)), answer)


def load(folder: Path, **files: list[Any]) -> Loaded:
    paths = [folder / f"{name}.jsonl" for name in files]
    for path, rows in zip(paths, files.values(), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_prompts(paths, max_chars=8000)


def test_ids_that_two_files_share_are_told_apart_by_file(tmp_path: Path) -> None:
    one = [{"id": f"q{i}", "prompt": f"What is a {word}?"} for i, word in enumerate(("hinge", "hasp", "latch"))]
    two = [{"id": f"q{i}", "prompt": f"How do I {word}?"} for i, word in enumerate(("smash locks", "steal", "cut it"))]
    loaded = load(tmp_path, one=one, two=[*two, one[0]])
    ids = loaded.frame["prompt_id"].to_list()
    assert ids[:3] == ["q0", "q1", "q2"]
    assert [i.rpartition("-")[0] for i in ids[3:]] == ["q0", "q1", "q2"]
    assert (loaded.counts.kept, loaded.counts.duplicates, loaded.counts.rejected) == (6, 1, 0)
    alone = load(tmp_path, two=two).frame["prompt_id"].to_list()
    assert alone == ["q0", "q1", "q2"]


def test_a_row_for_each_turn_gives_only_what_users_said(tmp_path: Path) -> None:
    rows = [{"role": "prompter", "text": "What is a fen?"}, {"role": "assistant", "text": "A bog."}]
    loaded = load(tmp_path, oasst=rows)
    assert [m[0]["content"] for m in loaded.frame["messages"]] == ["What is a fen?"]
    assert loaded.rejects["reason"].to_list() == ["the last turn is not by the user"]


def test_columns_that_mean_nothing_are_named_once(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {word}?", "license": "x", "topic": "y"} for word in ("a fen", "the moor")]
    assert load(tmp_path, one=rows, two=rows[:1]).notes == ("columns that are not read: license, topic",)
    assert load(tmp_path, one=[{"prompt": "What is a fen?", "id": "a", "split": "train", "context": "b"}]).notes == ()


def test_columns_are_named_where_they_are_called_otherwise(tmp_path: Path) -> None:
    row = {"ask": "Why?", "rule": "Be brief.", "set": "test", "who": "helpful", "prompt": "not this", "reply": "So."}
    columns = Columns(prompt="ask", system="rule", split="set", kind="who")
    prompt = check_row(Raw("f", 1, row), max_chars=99, kind="red-team", columns=columns)
    assert prompt.messages == tuple(messages(("system", "Be brief."), ("user", "Why?")))
    assert (prompt.split, prompt.kind) == ("evaluation", "helpful")
    columns = Columns(prompt="ask", system="rule", response="reply")
    assert conversation(Raw("f", 1, row), max_chars=99, columns=columns) == (prompt.messages, "So.")
    columns = Columns(prompt="asks", system="rule")
    with pytest.raises(RowFault, match="'columns' says that 'prompt' is in column 'asks'; the columns are ask, rule"):
        check_row(Raw("f", 1, row), max_chars=99, kind="red-team", columns=columns)


def test_a_map_holds_for_the_files_that_have_its_columns_and_must_hold_for_one(tmp_path: Path) -> None:
    load(tmp_path, mine=[{"ask": "What is a fen?", "prompt": "not this"}], usual=[{"prompt": "Where is Lima?"}])
    paths = [tmp_path / "mine.jsonl", tmp_path / "usual.jsonl"]
    loaded = load_prompts(paths, max_chars=99, columns=Columns(prompt="ask"))
    assert [m[0]["content"] for m in loaded.frame["messages"]] == ["What is a fen?", "Where is Lima?"]
    assert loaded.notes == ()
    with pytest.raises(DataError, match=r"usual.jsonl: 'columns' .* 'asks', which no row has; the columns are ask"):
        load_prompts(paths, max_chars=99, columns=Columns(prompt="asks"))


@pytest.mark.parametrize(("group", "setting"), [
    ("prompts", {"columns": {"response": "x"}}), ("gate", {"columns": {"kind": "x"}}),
    ("reward", {"human": {"path": "x", "share": 0.1, "columns": {"prefill": "x"}}}),
    ("supervised", {"mix": [{"path": "x", "share": 0.1, "columns": {"label": "x"}}]})])
def test_a_column_that_a_use_does_not_read_is_refused(group: str, setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"columns has no '\w+': give .*prompt"):
        Settings.model_validate({group: setting})


def test_a_map_that_says_nothing_is_not_written_down() -> None:
    said = Settings.model_validate({"reward": {"human": {"path": "x", "share": 0.1}}}).model_dump()
    assert not any("columns" in said[group] for group in ("prompts", "gate"))
    assert "columns" not in said["reward"]["human"]
    named = Settings.model_validate({"prompts": {"columns": {"prompt": "ask"}}})
    assert Settings.model_validate(named.model_dump(mode="json")) == named
