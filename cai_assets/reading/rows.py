"""What a row means: the prompt in it, and the answer to it. The columns are known by the names that public sets use.

A ``columns`` map (``settings/columns.py``) says others. Columns that change what a prompt means (a system text, a
context, earlier turns) are part of it, or the row is set aside with the reason; all other columns mean nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping

from cai_assets.engines.protocol import Message, Role
from cai_assets.reading.faults import RowFault, columns_of, type_of
from cai_assets.reading.turns import Turns, asked, first_of, json_turns, listed, message_of, transcript_turns, turns_of
from cai_assets.settings.columns import Columns

Row = Mapping[str, object]

PROMPTS = ("prompt", "messages", "conversations", "conversation", "goal", "Goal", "behavior", "Behavior", "question",
           "Question", "instruction", "text", "prompt_text", "transcript", "dialogue", "dialog")
ANSWERED = ("messages", "conversations", "conversation")
ANSWERS = ("response", "completion", "output", "answer")
BAD_IF_FALSE = ("label", "is_safe")  # KTO, BeaverTails
SYSTEM, CONTEXT = ("system", "system_prompt"), ("context", "ContextString")
# Where the prompt is if no column says so: HelpSteer3, UltraChat, SHP, HHH.
ELSEWHERE: dict[str, type] = {"context": list, "data": list, "history": str, "input": str}
PAIRED = ("text_correct", "chosen", "chosen_messages", "conversation_a", "rejected")
ITEM = ("role", "input", "history")
ASKED = {"prompt", "question", "instruction"}  # columns with one request, which 'input' and 'history' may belong to
SPOKEN: tuple[Role, Role] = ("user", "assistant")
# What a prompt is made of.
PROMPT_COLUMNS = {*PROMPTS, *SYSTEM, *CONTEXT, *ELSEWHERE, *PAIRED, *ITEM, "text_incorrect", "conversation_b"}
BETWEEN = "\n\n---\n\n"


def fields_of(value: object, columns: Columns, needs: str) -> Row:
    """The named columns of a row, those that ``columns`` maps under our own names. Raise RowFault if it has none.

    A row with none of the mapped columns is of another file, which has the usual names.
    """
    if isinstance(value, RowFault):
        raise value
    if isinstance(value, list) and len(value) > 1 and all(isinstance(t, Mapping) for t in value):
        value = {"messages": value}
    if not isinstance(value, Mapping):
        raise RowFault(f"expected an object with {needs}, found {type_of(value)}")
    mapped = columns.mapped
    if not any(name in value for name in mapped.values()):
        return value
    for field, name in mapped.items():
        if name not in value:
            raise RowFault(f"'columns' says that '{field}' is in column '{name}'; {columns_of(value)}")
    others = {k: v for k, v in value.items() if not ("prompt" in mapped and k in PROMPTS)}
    return {**others, **{field: value[name] for field, name in mapped.items()}, **_letter(value, mapped)}


def _letter(row: Row, mapped: Mapping[str, str]) -> dict[str, str]:
    """The label as a letter where it is the end of a column's name: 0 of response_0 and response_1."""
    if not mapped.keys() >= {"response_a", "response_b", "label"}:
        return {}
    ends = {mapped[field].rpartition("_")[2]: letter for field, letter in (("response_a", "A"), ("response_b", "B"))}
    said = str(row[mapped["label"]])
    return {"label": ends[said]} if len(ends) == 2 and said in ends else {}


def prompt_of(row: Row) -> Turns:
    """The turns up to the one to answer, with the system text and the context that the row gives."""
    return framed(asked(own_turns(row)), row)


def conversation_of(row: Row) -> tuple[Turns, str]:
    """The prompt's turns and the answer. Raise RowFault, with the reason, if there is none, or none to learn from."""
    if bad := next((name for name in BAD_IF_FALSE if str(row.get(name)).casefold() == "false"), None):
        raise RowFault(f"the answer is a bad example: its '{bad}' is false")
    for key in ANSWERED:
        turns = turns_of(row[key], key) if row.get(key) not in (None, "", []) else ()
        if turns and turns[-1]["role"] == "assistant":
            return framed(turns[:-1], row), turns[-1]["content"]
    answer = first_of(row, ANSWERS)
    if isinstance(answer, list) and len(answer) == 1:
        answer = turns_of(answer, "answer")[-1]["content"]
    if isinstance(answer, str):
        return prompt_of(row), answer
    turns = own_turns(row) if answer is None and prompt_column(row) else ()
    if turns and turns[-1]["role"] == "assistant":
        return framed(turns[:-1], row), turns[-1]["content"]
    raise RowFault("no answer: needs 'messages' that end with the assistant's turn, or a text in one of "
                   + ", ".join(ANSWERS))


def prompt_column(row: Row) -> str | None:
    """The column that holds the prompt; a blank one only if no other has any."""
    there = [k for k in PROMPTS if row.get(k) is not None]
    return next((k for k in there if row[k] != ""), there[0] if there else None)


def own_turns(row: Row) -> Turns:
    """All turns of the row, without its system text and its context: the prompt's, or those of a chosen answer."""
    turns = stated_turns(row)
    if turns is not None:
        return turns
    for key in PAIRED:
        value = row.get(key)
        if isinstance(value, list) or (isinstance(value, str) and (json_turns(value) or transcript_turns(value))):
            return turns_of(value, key)
    null = [k for k in PROMPTS if k in row]
    raise RowFault(f"'{null[0]}' is null" if null else
                   f"no prompt: needs one of {', '.join(PROMPTS)}; {columns_of(row)}; 'columns' can name another")


def stated_turns(row: Row) -> Turns | None:
    """All turns of the column that states the prompt; None if there is no such column."""
    if row.get("text_correct") is not None and row.get("text_incorrect") is not None:
        return None  # its prompt asks which of two answers is right
    key = prompt_column(row) or next((k for k, kind in ELSEWHERE.items() if isinstance(row.get(k), kind)), None)
    if key is None:
        return None
    value = row[key]
    if key == "question" and isinstance(value, Mapping):  # WebGPT
        value = value.get("full_text")
    if isinstance(row.get("role"), str) and isinstance(value, str):  # a row for each turn
        return (message_of({"role": row["role"], "content": value}, key),)
    turns = turns_of(value, key)
    return (*_history(row), *_with_input(turns, row)) if key in ASKED else turns


def framed(turns: Turns, row: Row) -> Turns:
    """The turns with the row's context before the last one and its system text before all; a blank one is none."""
    if turns and turns[0]["role"] == "system" and not turns[0]["content"].strip():
        turns = turns[1:]
    context = first_of(row, CONTEXT)
    if turns and not _is_messages(context) and (text := _text(context, CONTEXT[0])):
        turns = (*turns[:-1], Message(role=turns[-1]["role"], content=f"{text}{BETWEEN}{turns[-1]['content']}"))
    system = _text(first_of(row, SYSTEM), SYSTEM[0])
    if not system:
        return turns
    own = turns[0]["content"] if turns and turns[0]["role"] == "system" else None
    if own not in (None, system):
        raise RowFault("two system texts: one among the turns, another in its own column")
    return turns if own else (Message(role="system", content=system), *turns)


def _with_input(turns: Turns, row: Row) -> Turns:
    """What an instruction is applied to stands after it, unless it is in it."""
    more = row.get("input")
    if len(turns) != 1 or not isinstance(more, str) or not more.strip() or more in turns[0]["content"]:
        return turns
    return (Message(role=turns[0]["role"], content=f"{turns[0]['content']}\n\n{more}"),)


def _history(row: Row) -> Turns:
    """Earlier turns of a row: messages, or exchanges of a question and an answer each (Alpaca)."""
    earlier = row.get("history")
    if isinstance(earlier, str) and earlier.lstrip().startswith("["):
        earlier = listed(earlier)
    if not earlier:
        return ()
    if _is_messages(earlier):
        return turns_of(earlier, "history")
    if not isinstance(earlier, list) or not all(_is_exchange(pair) for pair in earlier):
        raise RowFault("'history' must be a list of exchanges, each a question and an answer, or of messages")
    return tuple(Message(role=role, content=text) for pair in earlier for role, text in zip(SPOKEN, pair, strict=True))


def _is_exchange(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == len(SPOKEN) and all(isinstance(text, str) for text in pair)


def _is_messages(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(turn, Mapping) for turn in value)


def _text(value: object, name: str) -> str:
    """The text of a column that belongs to the prompt; '' if there is none."""
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        value = "\n\n".join(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    if not isinstance(value, str):
        raise RowFault(f"'{name}' must be text, found {type_of(value)}")
    return value
