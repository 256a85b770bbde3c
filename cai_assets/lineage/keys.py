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
from typing import Any

from cai_assets.engines.protocol import Call, ModelIdentity, Request
from cai_assets.lineage.canonical import canonical_json, tagged_hash


def row_payload(step: str, version: int, call: Call, model: ModelIdentity, seed: int) -> str:
    """Everything that decides one output, in canonical form: as it is hashed and as it is stored beside the output."""
    return canonical_json({
        "step": step,
        "version": version,
        "model": model.model_dump(),
        "call": call.model_dump(),
        "seed": seed,
    })


def request_for(payload: str, call: Call) -> Request:
    """Key a call. Its seed comes from its key: one constant seed for all rows would correlate them."""
    key = payload_key(payload)
    return Request(row_key=key, seed=int(key[-7:], 16), call=call)


def payload_key(payload: str) -> str:
    """The row key of a payload: ``tagged_hash`` of what ``row_payload`` wrote down."""
    return f"r1:{hashlib.blake2b(payload.encode(), digest_size=16).hexdigest()}"


def row_id(row_key: str, output: str | None, parents: Sequence[str]) -> str:
    """Identity of a row in the lineage graph; a different parent or output gives a different id."""
    return tagged_hash("i1", [row_key, output, list(parents)])


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
