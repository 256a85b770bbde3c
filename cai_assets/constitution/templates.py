"""How a request is made of a sentence that is none: the named templates, in the words of the shipped constitutions."""

from __future__ import annotations

import re

from cai_assets.constitution.model import Fill

REQUESTS = ("critique", "revision", "preference", "evaluation")
ENDS = tuple('.!?:;"”。！？')
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


def filled(texts: dict[str, str], sentence: str, fill: Fill) -> list[str]:
    """Fill what is missing of a principle's requests; return the names of the templates.

    A sentence that asks to choose is a preference as it stands.
    """
    used, given = [], dict(texts)
    for request in FILLED[fill] if sentence else ():
        if not texts[request] and request == "preference" and is_choice(sentence):
            texts[request] = sentence
        elif not texts[request] and (request == "preference" or not (given["critique"] or given["revision"])):
            texts[request] = TEMPLATES[request].format(text=closed(sentence))
            used.append(request)
    if texts["critique"] and not texts["revision"]:
        texts["revision"] = TEMPLATES["revision-of-a-critique"]
        used.append("revision-of-a-critique")
    elif texts["revision"] and not texts["critique"]:
        texts["critique"] = TEMPLATES["critique-of-a-revision"].format(text=closed(texts["revision"]))
        used.append("critique-of-a-revision")
    return used


def closed(sentence: str) -> str:
    """The sentence with an end, so that others can follow it."""
    return sentence if sentence.endswith(ENDS) else f"{sentence}."
