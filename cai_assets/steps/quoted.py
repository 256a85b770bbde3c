"""Texts that quote what policies are measured by: a prompt inside a longer text is as well learned as one alone.

A text quotes a held-out one if a line or sentence of it is nearly the same (``prompt_near.py``), or if its words hold
all words of one of five or more, one after the other. Shorter ones say too little to be known by: any text may hold
"tell me more". Guarantee: the words are read once, however many texts are held out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cai_assets.steps.prompt_near import near_to
from cai_assets.steps.prompt_rows import normalize

FEWEST = 5  # words
PIECE = re.compile(r"\n+|(?<=[.!?…])[\"”’')\]]*\s+")
SPEAKER = re.compile(r"^\W*[\w ]{1,20}:\s+")  # 'User: ', '**Assistant:** '


def quoting(texts: Sequence[str | None], held_out: Sequence[str]) -> set[int]:
    """The places of texts that quote one of ``held_out`` (normalized)."""
    known = [text for text in dict.fromkeys(held_out) if text]
    pieces = [(i, piece) for i, text in enumerate(texts) if text for piece in _pieces(text)]
    if not known or not pieces:
        return set()
    starts = _by_start(known)
    return ({pieces[at][0] for at in near_to(known, [piece for _, piece in pieces])}
            | {i for i, text in enumerate(texts) if text and _holds_one(normalize(text).split(), starts)})


def _pieces(text: str) -> Iterator[str]:
    """Lines and sentences, normalized, with and without who speaks."""
    for piece in {*text.split("\n"), *PIECE.split(text)}:
        for form in {piece, SPEAKER.sub("", piece)}:
            if form.strip():
                yield normalize(form)


def _by_start(known: Sequence[str]) -> dict[tuple[str, ...], list[list[str]]]:
    found: dict[tuple[str, ...], list[list[str]]] = {}
    for words in (text.split() for text in known):
        if len(words) >= FEWEST:
            found.setdefault(tuple(words[:FEWEST]), []).append(words)
    return found


def _holds_one(words: Sequence[str], starts: dict[tuple[str, ...], list[list[str]]]) -> bool:
    return any(list(words[at:at + len(one)]) == one for at in range(len(words) - FEWEST + 1)
               for one in starts.get(tuple(words[at:at + FEWEST]), ()))
