"""Measures of text that need no model: echo, distinctness, lexical relevance, length.

All are lexical. They catch parroting, collapse and answers that belong to another prompt; they do not measure
quality, and a paraphrase looks less relevant to them than it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

GRAM = 5
_WORD = re.compile(r"\w+(?:['’]\w+)*")


class Relevance(NamedTuple):
    """Per response: cosine to its own prompt, and mean cosine to all other prompts (None if there is no other)."""

    own: list[float]
    others: list[float | None]


def words(text: str) -> list[str]:
    """Words in lower case; punctuation is ignored."""
    return _WORD.findall(text.lower())


def echo_rate(text: str, sources: Sequence[str]) -> float:
    """Share, in [0, 1], of the text's 5-grams of words that occur in a source; 0 for a text of under five words."""
    grams = _grams(text)
    known = {g for source in sources for g in _grams(source)}
    return sum(g in known for g in grams) / len(grams) if grams else 0.0


def distinct(texts: Sequence[str]) -> float | None:
    """Share of texts that do not repeat an earlier one, apart from case and spacing; None for no texts."""
    return len(set(map(same_text, texts))) / len(texts) if texts else None


def same_text(text: str) -> str:
    """Equal for texts that differ only in case and spacing."""
    return " ".join(text.lower().split())


def relevance(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """Cosine of each response to its own prompt, in [0, 1]; see ``relevance_with_zero_line``."""
    return relevance_with_zero_line(prompts, responses).own


def relevance_with_zero_line(prompts: Sequence[str], responses: Sequence[str]) -> Relevance:
    """TF-IDF cosine of responses to prompts, and to the prompts they do not answer: what no relevance looks like.

    Features are words (1-2) and characters within words (3-5), after Salton and Buckley 1988. Values compare only
    within one call, because the weights come from the texts given. Raise ValueError for unequal lengths.
    """
    if len(prompts) != len(responses):
        raise ValueError(f"relevance: {len(prompts)} prompts but {len(responses)} responses; give one prompt each")
    if not any(map(words, [*prompts, *responses])):
        return Relevance([0.0] * len(prompts), [None] * len(prompts))
    different = {p: i for i, p in enumerate(dict.fromkeys(prompts))}
    vectors = _vectors([*different, *responses])
    p, r = vectors[: len(different)], vectors[len(different) :]
    own = r.multiply(p[[different[x] for x in prompts]]).sum(axis=1)
    total = r @ p.sum(axis=0).T
    others = len(different) - 1
    pairs = [(float(o), float(t)) for o, t in zip(own.flat, total.flat, strict=True)]
    return Relevance([_unit(o) for o, _ in pairs], [_unit((t - o) / others) if others else None for o, t in pairs])


def _grams(text: str) -> list[tuple[str, ...]]:
    w = words(text)
    return [tuple(w[i : i + GRAM]) for i in range(len(w) - GRAM + 1)]


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))  # rounding may exceed the bounds


def _vectors(texts: Sequence[str]) -> csr_matrix:
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    by_word = TfidfVectorizer(tokenizer=words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True)
    by_character = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    return csr_matrix(normalize(hstack([by_word.fit_transform(texts), by_character.fit_transform(texts)])))
