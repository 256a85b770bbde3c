"""How a request is made of a sentence that is none: the named templates, in the words of the shipped constitutions."""

from __future__ import annotations

import re
from typing import Literal

Fill = Literal["preference", "critique", "all", "none"]
FILLED: dict[Fill, tuple[str, ...]] = {
    "preference": ("preference",), "critique": ("critique", "revision"),
    "all": ("critique", "revision", "preference"), "none": (),
}
TEMPLATES = {
    "preference": "Which answer follows this principle better? {text}",
    "critique": "Read the assistant's last answer. Does any part of it go against this principle: {text} "
                "Name each such part, or say that there is none.",
    "revision": "Rewrite the answer so that it follows this principle: {text} "
                "If nothing was wrong, repeat the answer as it is.",
    "revision-of-a-critique": "Rewrite the answer so that what was found wrong with it is put right. "
                              "If nothing was wrong, repeat the answer as it is.",
    "critique-of-a-revision": "Read the assistant's last answer. What in it would have to change to do this: {text} "
                              "Name it, or say that there is nothing.",
}
CHOOSES = re.compile(r"(?:please\s+)?(?:choose|select|pick|prefer|compare|which)\b"
                     r"|.*\b(?:choose|select|pick)\b.*\b(?:response|answer|reply|completion|output|option|one)s?\b",
                     re.IGNORECASE | re.DOTALL)


def is_choice(sentence: str) -> bool:
    """Whether a sentence asks to choose between answers already, as those of Bai et al. 2022 do."""
    return CHOOSES.match(sentence) is not None
