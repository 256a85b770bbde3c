"""What a call is as the body of a request: a prompt of token ids, or messages.

With a local tokenizer prompts travel as token ids; without one, contents are neutralized first, because a server parses
control tokens in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cai_assets.engines.protocol import Call, Request
from cai_assets.engines.templating import Templater, neutralize

TOP_LOGPROBS = 20
COMPLETIONS, CHAT = "completions", "chat/completions"
Kind = tuple[object, ...]


class Body(NamedTuple):
    """``path``: below the server's address; ``names``: what each answer's first token may be called in the reply;
    ``adapted``: how the messages were adapted to the chat template that is here, and why."""

    path: str
    fields: Mapping[str, Any]
    names: tuple[str, ...]
    adapted: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """What a server may refuse, whatever the text: where the call goes, its fields, the temperature."""
        return (self.path, frozenset(self.fields), self.fields["temperature"])


class Writer:
    """Writes requests for one served model. ``templater``: of its tokenizer, if that is here."""

    def __init__(self, model: str, templater: Templater | None, context: int) -> None:
        self.model, self.templater, self.context = model, templater, context

    def __call__(self, request: Request) -> Body:
        """Raise ValueError if the call cannot be asked."""
        call = request.call
        shared = {"model": self.model, **_sampling(call, request.seed)}
        if self.templater is not None:
            return self._of_tokens(request, shared, self.templater)._replace(adapted=self.templater.adapted(call))
        names = tuple(a.strip() for a in call.answers)
        contents = [{"role": m["role"], "content": neutralize(m["content"])} for m in call.messages]
        if call.style == "plain":
            scores = {"logprobs": TOP_LOGPROBS} if call.answers else {}
            return _body(COMPLETIONS, shared | scores, names, prompt="\n\n".join(m["content"] for m in contents))
        scores = {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if call.answers else {}
        goes_on = call.messages[-1]["role"] == "assistant"
        more = {"add_generation_prompt": False, "continue_final_message": True} if goes_on else {}
        return _body(CHAT, shared | scores | more, names, messages=contents)

    def _of_tokens(self, request: Request, shared: dict[str, Any], t: Templater) -> Body:
        call = request.call
        prompt = t.encode_within(call, self.context, request.thought)
        if call.answers:
            names = tuple(f"token_id:{i}" for i in t.answer_tokens(call.answers))
            return _body(COMPLETIONS, shared | {"logprobs": TOP_LOGPROBS}, names, prompt=prompt,
                         return_tokens_as_token_ids=True)
        stops: dict[str, Any] = {"stop": list(t.stops(call))} if t.stops(call) else {}
        stops |= {"skip_special_tokens": False} if t.decode_all else {}
        return _body(COMPLETIONS, shared | stops, (), prompt=prompt, stop_token_ids=list(t.stop_token_ids))


def _body(path: str, fields: dict[str, Any], names: tuple[str, ...], **more: Any) -> Body:
    return Body(path, fields | more, names)


def _sampling(call: Call, seed: int) -> dict[str, Any]:
    s = call.sampling
    if s is None:
        return {"max_tokens": 1, "temperature": 0}
    chosen = {"temperature": s.temperature, "top_p": s.top_p, "max_tokens": s.max_tokens, "seed": seed}
    return chosen | ({"stop": list(s.stop)} if s.stop else {})
