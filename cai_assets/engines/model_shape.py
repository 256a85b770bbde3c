"""The sizes of a model's parts, read from its configuration and the headers of its weights: what memory depends on.

Features are found in the names and shapes of tensors, not by the family's name: a gated feed-forward layer has a
``gate``, a normalized query has a ``q_norm``. Sizes that a configuration does not give are read as those of the usual
dense decoder.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cai_assets.engines.weights import shapes

FIRST_LAYER = re.compile(r"\b(?:layers|h|blocks|block)\.0\.")
SCALAR = {"score.weight", "classifier.weight"}  # heads with one output
NAMES = {  # of sizes, in the configurations of different families
    "layers": ("num_hidden_layers", "n_layer", "n_layers"), "hidden": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head", "n_heads"), "vocabulary": ("vocab_size",),
    "inner": ("intermediate_size", "n_inner", "ffn_dim"),
}


class Shape(NamedTuple):
    """Sizes of a decoder. ``queries`` and ``keys``: width of all heads together; ``inner``: of the feed-forward layers
    that one token goes through; ``norms``: normalizations of the hidden state in a layer; ``linear``: (in, out) of each
    matrix in the layers, which is what adapters are added to."""

    parameters: int
    layers: int
    hidden: int
    queries: int
    keys: int
    inner: int
    vocabulary: int
    norms: int
    normed_heads: bool
    gated: bool
    linear: tuple[tuple[int, int], ...]

    @property
    def in_layers(self) -> int:
        """Parameters of the matrices in the layers, all experts included."""
        return sum(map(math.prod, self.linear))

    def kv_bytes(self, width: int) -> int:
        """Keys and values of one token in all layers, at ``width`` bytes a number."""
        return 2 * self.layers * self.keys * width

    def adapters(self, rank: int) -> int:
        """Parameters of low-rank adapters of all matrices in the layers."""
        return sum(rank * (inner + outer) for outer, inner in self.linear)


def shape_of(folder: Path) -> Shape:
    """The sizes of the model in a folder. Raise OSError or ValueError without a configuration."""
    whole = json.loads((folder / "config.json").read_bytes())
    config = whole.get("text_config") or whole
    tensors = {name: shape for name, shape in shapes(folder).items() if name not in SCALAR}
    first = {name: shape for name, shape in tensors.items() if FIRST_LAYER.search(name)}
    size = {name: next((int(config[key]) for key in keys if config.get(key)), 0) for name, keys in NAMES.items()}
    head = int(config.get("head_dim") or size["hidden"] // max(1, size["heads"]))
    hidden = size["hidden"]
    return Shape(
        parameters=sum(map(math.prod, tensors.values())), layers=size["layers"], hidden=hidden,
        queries=size["heads"] * head, keys=int(config.get("num_key_value_heads") or size["heads"]) * head,
        inner=_inner(config, size["inner"] or 4 * hidden), vocabulary=size["vocabulary"],
        norms=sum(_is_norm(name) and shape == (hidden,) for name, shape in first.items()) or 2,
        normed_heads=any("q_norm" in name for name in first), gated=any("gate" in name for name in first),
        linear=tuple(shape for name, shape in tensors.items()
                     if len(shape) == 2 and re.search(r"\b(?:layers|h|blocks|block)\.\d+\.", name)))


def _is_norm(name: str) -> bool:
    return name.endswith("weight") and ("norm" in name or re.search(r"\bln_\d", name) is not None)


def _inner(config: Mapping[str, Any], dense: int) -> int:
    """Of a mixture of experts: the experts that one token goes through, together."""
    each = int(config.get("moe_intermediate_size") or dense)
    chosen = int(config.get("num_experts_per_tok") or 0)
    shared = int(config.get("shared_expert_intermediate_size") or 0) or each * int(config.get("n_shared_experts") or 0)
    return each * chosen + shared if chosen else dense
