"""What of a model differs from one behaviour to expect of all, and what is done about it: found by trying, not by name.

``of_template`` renders the chat template alone and costs milliseconds; ``of_folder`` also loads the tokenizer;
``of_server`` asks a served model a handful of one-word questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cai_assets.engines import chat_family, thinking
from cai_assets.engines.chat_template import ChatTemplate
from cai_assets.engines.model_folder import faults
from cai_assets.engines.protocol import Call, Engine, Message, Request, Result, Sampling
from cai_assets.engines.templating import Templater, load_tokenizer

USER: Message = {"role": "user", "content": "Answer with one word: what color is the sky?"}
SYSTEM: Message = {"role": "system", "content": "You answer with one word."}
LEAD: Message = {"role": "assistant", "content": "The sky is"}


class Finding(NamedTuple):
    """``done``: what is adapted, '' for nothing; ``hint``: of what does not work, what to do."""

    behavior: str
    found: str
    done: str = ""
    hint: str = ""


def of_template(template: ChatTemplate, mode: str = "off") -> Iterator[Finding]:
    """What rendering tells. ``mode``: the setting ``thinking`` of the model."""
    family = chat_family.read(template)
    if template.framed:
        yield Finding("chat template", "none", "chats are written in the dialogue frame of Bai et al. 2022 (Human:, "
                                               "Assistant:)")
    yield Finding("system turn", family.system, _unless_taken(family.system, "its text is joined to the first turn of "
                                                              "the user"))
    yield Finding("two turns of one role in a row", family.repeats, _unless_taken(family.repeats, "they are joined"))
    yield Finding("last turn of the assistant", "continued" if family.last == "taken" else family.last,
                  _unless_taken(family.last, "it is written after the beginning of an answer"))
    yield Finding("contents", "lists of parts" if family.parts else "text",
                  "each text is sent as a list of one part" if family.parts else "")
    yield _thinks(template, mode)


def _thinks(template: ChatTemplate, mode: str) -> Finding:
    found = thinking.read(template)
    if found is None:
        return Finding("thinking", "the template has no place for it")
    if mode != "off":
        return Finding("thinking", _told(found.keep) or "before each answer", "thoughts are kept beside answers")
    if found.off is None:
        return Finding("thinking", "before each answer", hint=thinking.CANNOT)
    told = _told(found.off)
    return Finding("thinking", "can be switched off" if told else "only where it is asked for",
                   f"it is switched off: {told}" if told else "")


def _told(switch: thinking.Switch) -> str:
    """In words."""
    return ", ".join([*(f"{name}={value}" for name, value in switch.variables.items()),
                      *([f"answers begin with {switch.lead.strip()!r}"] if switch.lead else [])])


def of_folder(path: Path, mode: str = "off") -> list[Finding]:
    """All there is to know of a model folder; only what is wrong with it if it cannot be loaded."""
    if wrong := list(faults(path)):
        return [Finding("files", "not a model that can be loaded", hint=why) for why in wrong]
    templater = Templater(load_tokenizer(path))
    return [*of_template(templater.template, mode), *_of_tokenizer(templater), _tied(path)]


def of_server(engine: Engine) -> Iterator[Finding]:
    """What a served model answers: five short calls."""
    calls = {"a question": _asks(USER), "system turn": _asks(SYSTEM, USER),
             "last turn of the assistant": _asks(USER, LEAD),
             "plain text": _asks(USER).model_copy(update={"style": "plain"}),
             "labels from log-probabilities": Call(messages=(USER, LEAD), answers=("A", "B"))}
    for name, result in zip(calls, _answers(engine, list(calls.values())), strict=True):
        if result.error:
            yield Finding(name, "refused", hint=result.error)
        else:
            yield Finding(name, "taken", "; ".join(result.adapted))


def troubles(findings: Iterator[Finding] | list[Finding]) -> list[str]:
    """What does not work, or works only adapted, a line each."""
    return [f"{f.behavior}: {f.found}; {f.hint or f.done}" for f in findings if f.hint or f.done]


def _unless_taken(place: chat_family.Place, done: str) -> str:
    return "" if place == "taken" else done


def _of_tokenizer(templater: Templater) -> Iterator[Finding]:
    tokenizer, family = templater.tokenizer, templater.family
    adds = bool(templater.beginning)
    bos = "written by the template" if family.bos else "not written by the template"
    yield Finding("beginning of text", bos if tokenizer.bos_token else "the tokenizer has none",
                  "prompts hold it once: the tokenizer's own is left out" if family.bos and adds else "")
    ends = [str(tokenizer.convert_ids_to_tokens(i)) for i in templater.stop_token_ids]
    eos = str(tokenizer.eos_token)
    other = [end for end in ends if end != eos]
    yield Finding("end of turn", f"{' and '.join(other)}, which is not {eos}" if other else eos,
                  f"both end an answer, and training writes {other[0]}" if other else "")
    apart = templater.padding
    same = tokenizer.pad_token is None or tokenizer.pad_token_id in templater.stop_token_ids
    yield Finding("padding", "none" if tokenizer.pad_token is None else
                  f"{tokenizer.pad_token}, which ends turns" if same else str(tokenizer.pad_token),
                  f"the reward model pads with {apart}" if same and apart else "",
                  "" if apart else "no special token can serve as padding of a reward model: add one to the tokenizer")


def _tied(path: Path) -> Finding:
    config: dict[str, Any] = json.loads((path / "config.json").read_bytes())
    tied = bool({**config, **config.get("text_config", {})}.get("tie_word_embeddings"))
    return Finding("input and output embeddings", "tied" if tied else "apart",
                   "they are trained and saved as one" if tied else "")


def _asks(*messages: Message) -> Call:
    return Call(messages=messages, sampling=Sampling(temperature=1.0, max_tokens=16))


def _answers(engine: Engine, calls: list[Call]) -> list[Result]:
    """In the order of the calls, one after the other: each is to be learned from."""
    return [next(iter(engine.run([Request(row_key=f"check-{i}", seed=0, call=call)]))) for i, call in enumerate(calls)]
