"""A thought and the answer after it, told apart in what a model wrote; no part of a thought stays in an answer."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from cai_assets.engines.protocol import Request, Result

State = Literal["none", "valid", "empty", "repeated", "unclosed"]
TAGS = ("<think>", "</think>")  # of most families; where no template is here to tell
UNCLOSED = "the thought did not end"
RAISE = ("{} within {} tokens: raise generation.max_tokens (or evaluation.max_tokens, labels.thought_tokens), or set "
         "models.*.thinking=budget")
CAME = "a thought is left out, because thinking is off and the model thinks all the same"


class Said(NamedTuple):
    """``thought``: of several, one after the other. An unclosed thought has no answer after it."""

    state: State
    thought: str
    answer: str


def split(text: str, begin: str, end: str, *, opened: bool = False, anywhere: bool = True) -> Said:
    """``opened``: the prompt ends inside a thought. ``anywhere``: thoughts may begin in the midst of a text; otherwise
    the tags are taken for those of thoughts only in a text that begins with one."""
    begin, end = begin.strip(), end.strip()
    if opened or (end in text and begin not in text.partition(end)[0]):
        text = begin + text  # the opening tag was in the prompt
    if not anywhere and not text.lstrip().startswith(begin):
        return Said("none", "", text)
    rest = text
    thoughts, answer = [], ""
    while begin in rest:
        before, _, inside = rest.partition(begin)
        answer += before
        thought, closed, rest = inside.partition(end)
        thoughts.append(thought.replace(begin, "").strip())
        if not closed:
            return Said("unclosed", "\n\n".join(thoughts), "")
    if not thoughts:
        return Said("none", "", text)
    state: State = "repeated" if len(thoughts) > 1 else "valid" if thoughts[0] else "empty"
    return Said(state, "\n\n".join(filter(None, thoughts)), (answer + rest).lstrip())


def after(thought: str, answer: str) -> Said:
    """An answer to a prompt that held its thought."""
    return Said("valid" if thought.strip() else "empty", thought.strip(), answer)


def result(request: Request, said: Said, finish: Literal["stop", "length"], *, kept: bool, **counts: Any) -> Result:
    """The result of a generating call. ``kept``: thoughts are wanted; otherwise one that came is left out, and told."""
    if request.only_thought:
        ended = "none" if said.state == "none" else "valid"
        return Result(row_key=request.row_key, text=said.thought or said.answer, thought_state=ended, finish=finish,
                      **counts)
    if said.state == "unclosed":
        limit = request.call.sampling.max_tokens if request.call.sampling else 0
        counts.pop("adapted", None)
        return Result(row_key=request.row_key, error=RAISE.format(UNCLOSED, limit), refused=True, **counts)
    if kept:
        counts |= {"thought": said.thought, "thought_state": said.state}
    elif said.thought:
        counts["adapted"] = (*counts.get("adapted", ()), CAME)
    return Result(row_key=request.row_key, text=said.answer, finish=finish, **counts)
