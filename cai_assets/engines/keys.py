"""What determines one model call: the content that its ``row_key`` hashes.

Step and its hand-bumped version, the rendered messages (a principle's text enters by itself, so does the previous
step's text), model, sampling, seed, sample index, answers. Not: file order, batch size, engine address, GPU, time,
parents.
"""

from __future__ import annotations

from json.encoder import encode_basestring as _quoted

from cai_assets.engines.protocol import Call, ModelIdentity, Request
from cai_assets.store.canonical import canonical_json


class Payloads:
    """Serializes what determines the calls of one step: as it is hashed, and as it is stored beside the output.

    ``writer(call)`` is the canonical form of the whole (``store.canonical``), of which the part that calls share is
    encoded once: a plan keys a million calls.
    """

    def __init__(self, step: str, version: int, model: ModelIdentity, seed: int) -> None:
        # Names in their order: call (answers, messages, sample, sampled, sampling, style), model, seed, step, version.
        rest = canonical_json({"model": model.model_dump(), "seed": seed, "step": step, "version": version})
        self._tail = f"}},{rest[1:]}"
        self._sampled = f',"sampled":{canonical_json(model.sampled.model_dump())}' if model.sampled else ""
        self._answers: dict[tuple[str, ...], str] = {}
        self._sampling: dict[tuple[object, ...], str] = {}

    def __call__(self, call: Call) -> str:
        if (answers := self._answers.get(call.answers)) is None:
            answers = self._answers[call.answers] = canonical_json(call.answers)
        s = call.sampling
        same = (s, s and (type(s.temperature), type(s.top_p)))  # 1 equals 1.0 but is written differently
        if (sampling := self._sampling.get(same)) is None:
            sampling = self._sampling[same] = canonical_json(s and s.model_dump())
        how = self._sampled if s is None else ""  # of an answer to a scoring call
        messages = ",".join([f'{{"content":{_quoted(m["content"])},"role":"{m["role"]}"}}' for m in call.messages])
        return (f'{{"call":{{"answers":{answers},"messages":[{messages}],"sample":{call.sample}{how},'
                f'"sampling":{sampling},"style":"{call.style}"{self._tail}')


def row_payload(step: str, version: int, call: Call, model: ModelIdentity, seed: int) -> str:
    """Everything that determines one output."""
    return Payloads(step, version, model, seed)(call)


def request_for(key: str, call: Call) -> Request:
    """A keyed call. Its seed comes from its key: one constant seed for all rows would correlate them."""
    return Request(row_key=key, seed=int(key[-7:], 16), call=call)
