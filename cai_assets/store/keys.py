"""Keys: what decides an output, and nothing else.

Three identities, each a tagged hash of canonical JSON:

``row_key`` (r1)         one model call. Step and its hand-bumped version, the rendered messages (a principle's
                         text enters by itself, so does the previous step's text), model, sampling, seed, sample
                         index, answers. Not: file order, batch size, engine address, GPU, time, parents.
``row_id`` (i1)          lineage: the row key, the output and the parents' row ids (a Merkle chain).
``checkpoint_key`` (k1)  training rows, base weights, training settings, training code version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring as _quoted
from typing import Any

from cai_assets.engines.protocol import Call, ModelIdentity, Request
from cai_assets.store.canonical import canonical_json, tagged_hash


class Payloads:
    """Writes down what decides the calls of one step: as it is hashed, and as it is stored beside the output.

    ``writer(call)`` is the canonical form of the whole (``lineage.canonical``), of which what calls have in common is
    encoded once: a plan keys a million calls.
    """

    def __init__(self, step: str, version: int, model: ModelIdentity, seed: int) -> None:
        # Names in their order: call (answers, messages, sample, sampling, style), model, seed, step, version.
        rest = canonical_json({"model": model.model_dump(), "seed": seed, "step": step, "version": version})
        self._tail = f"}},{rest[1:]}"
        self._answers: dict[tuple[str, ...], str] = {}
        self._sampling: dict[tuple[object, ...], str] = {}

    def __call__(self, call: Call) -> str:
        if (answers := self._answers.get(call.answers)) is None:
            answers = self._answers[call.answers] = canonical_json(call.answers)
        s = call.sampling
        same = (s, s and (type(s.temperature), type(s.top_p)))  # 1 equals 1.0, and is written differently
        if (sampling := self._sampling.get(same)) is None:
            sampling = self._sampling[same] = canonical_json(s and s.model_dump())
        messages = ",".join([f'{{"content":{_quoted(m["content"])},"role":"{m["role"]}"}}' for m in call.messages])
        return (f'{{"call":{{"answers":{answers},"messages":[{messages}],"sample":{call.sample},'
                f'"sampling":{sampling},"style":"{call.style}"{self._tail}')


def row_payload(step: str, version: int, call: Call, model: ModelIdentity, seed: int) -> str:
    """Everything that decides one output."""
    return Payloads(step, version, model, seed)(call)


def request_for(key: str, call: Call) -> Request:
    """A keyed call. Its seed comes from its key: one constant seed for all rows would correlate them."""
    return Request(row_key=key, seed=int(key[-7:], 16), call=call)


def payload_key(payload: str) -> str:
    """The row key of a payload: ``tagged_hash`` of what was written down."""
    return f"r1:{hashlib.blake2b(payload.encode(), digest_size=16).hexdigest()}"


def row_id(row_key: str, output: str | None, parents: Sequence[str]) -> str:
    """Identity of a row in the lineage graph; a different parent or output gives a different id.

    The tagged hash of [row_key, output, [parents]], written out by hand because every row asks for it.
    """
    said = "null" if output is None else _quoted(output)
    text = f"[{_quoted(row_key)},{said},[{','.join([_quoted(p) for p in parents])}]]"
    return f"i1:{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def checkpoint_key(
    kind: str,
    *,
    code_version: int,
    rows: str,
    base: ModelIdentity,
    settings: Mapping[str, Any],
    seed: int,
    extra: Mapping[str, str] | None = None,
) -> str:
    """Identity of a training. ``rows``: digest of the training rows in canonical order."""
    return tagged_hash("k1", {
        "kind": kind, "code_version": code_version, "rows": rows, "base": base.model_dump(),
        "settings": dict(settings), "seed": seed, "extra": dict(extra or {}),
    })
