"""Keys of rows: hashes of what decides an output, and nothing else.

``row_key`` (r1)  one model call; ``engines.keys`` writes down what decides it.
``row_id`` (i1)   lineage: the row key, the output and the parents' row ids (a Merkle chain).

The key of a checkpoint (k1) is ``train.identity.checkpoint_key``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from json.encoder import encode_basestring as _quoted


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
