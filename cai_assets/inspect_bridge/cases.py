"""A suite's item as a sample of Inspect, and back. What scorers need is in its metadata, and so in the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageUser
from inspect_ai.solver import TaskState

from cai_assets.engines.protocol import Call, Message
from cai_assets.evals.suites.draw import Item
from cai_assets.evals.suites.model import LETTERS, Case
from cai_assets.steps.frames import transcript

TURN = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
LETTERS_READ = "letters_read"  # in a state's metadata: the rows of an ability case


def samples_of(items: Sequence[Item], indices: range, *, confidence: float) -> Iterator[Sample]:
    """One sample per item and sample index; one in total for an ability item. ``confidence``: of intervals."""
    for item in items:
        for index in indices if item.suite.kind != "ability" else indices[:1]:
            yield _sample(item, index, confidence)


def case_of(metadata: Mapping[str, Any]) -> Case:
    """The case of a sample."""
    fields = metadata["case"]
    return Case(**{**fields, "messages": tuple(fields["messages"]), "choices": tuple(fields["choices"])})


def turns(messages: Sequence[Message]) -> list[ChatMessage]:
    """A conversation in Inspect's types."""
    return [TURN[m["role"]](content=m["content"]) for m in messages]


def messages_of(call: Call) -> list[ChatMessage]:
    """The conversation of a call."""
    return turns(call.messages)


def whole_answer(state: TaskState) -> str:
    """The answer with the prefill that the policy was given."""
    return f"{case_of(state.metadata).prefill or ''}{state.output.completion}".strip()


def _sample(item: Item, index: int, confidence: float) -> Sample:
    case = item.case
    begun: list[Message] = [Message(role="assistant", content=case.prefill)] if case.prefill else []
    request = transcript(item.messages) + (f"\n\nAssistant: {case.prefill}" if case.prefill else "")
    target = LETTERS[case.answer] if case.answer is not None else ""
    metadata = {
        "suite": item.suite.name, "kind": item.suite.kind, "mode": item.mode, "case_id": item.case_id,
        "behaviour": case.behaviour, "category": case.category, "sample": index, "asked": request,
        "template": item.template.id if item.template else None, "case": case._asdict(),
        "confidence": confidence,
    }
    return Sample(input=turns([*item.messages, *begun]), id=f"{item.mode}/{item.case_id}/{index}", target=target,
                  choices=list(case.choices) or None, metadata=metadata)
