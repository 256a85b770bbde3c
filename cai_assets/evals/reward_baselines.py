"""What a reward model must beat: three ways to guess which response a person or labeler prefers, without a model.

Each learns from the training pairs (the first two only the sign) and gives each held-out pair a number: above zero for
the chosen response, below for the rejected one, zero if undecided.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cai_assets.evals.refusal import is_refusal

Pair = Mapping[str, Any]  # chosen str, rejected str, p_chosen float
BASELINES = ("length", "refusal", "tfidf")
AT_MOST = 20_000  # training pairs of the TF-IDF model, so that it takes only seconds


def guesses(training: Sequence[Pair], held_out: Sequence[Pair]) -> dict[str, list[float]]:
    """A number for each held-out pair from each of BASELINES."""
    return {
        "length": _one_feature(len, training, held_out),
        "refusal": _one_feature(is_refusal, training, held_out),
        "tfidf": tfidf(training[:AT_MOST], held_out),
    }


def _one_feature(
    feature: Callable[[str], float], training: Sequence[Pair], held_out: Sequence[Pair]
) -> list[float]:
    """Prefer the response with more of the feature, or with less if that is what the training pairs say."""
    def more(pair: Pair) -> int:
        a, b = feature(pair["chosen"]), feature(pair["rejected"])
        return (a > b) - (a < b)

    way = 1 if sum(more(p) * (2 * p["p_chosen"] - 1) for p in training) >= 0 else -1
    return [float(way * more(p)) for p in held_out]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def tfidf(training: Sequence[Pair], held_out: Sequence[Pair]) -> list[float]:
    """Logistic regression on differences of TF-IDF vectors (words and word pairs), with the labels as weights."""
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    texts = [p[side] for side in ("chosen", "rejected") for p in training]
    if not held_out or not any(map(_words, texts)):
        return [0.0] * len(held_out)
    # Not the default pattern, which drops one-letter words.
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=50_000, tokenizer=_words,
                              token_pattern=None)
    fitted = vectors.fit_transform(texts)
    differences = fitted[: len(training)] - fitted[len(training) :]
    p = [pair["p_chosen"] for pair in training]
    model = LogisticRegression(fit_intercept=False, max_iter=1000)
    model.fit(vstack([differences, differences]), [1] * len(p) + [0] * len(p), [*p, *(1 - x for x in p)])
    unseen = vectors.transform([x["chosen"] for x in held_out]) - vectors.transform([x["rejected"] for x in held_out])
    return [float(x) for x in model.decision_function(unseen)]
