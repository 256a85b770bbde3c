"""What a server takes of the protocol: learned from its first refusals, and adapted where the meaning stays the same.

Whatever would change the meaning of a call is not adapted: the row's error then ends with the setting that helps.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from cai_assets.engines.chat_family import Family

REFUSES = re.compile(r"unsupported|unrecognized|unknown|not permitted|extra_forbidden|not support|only|less than|"
                     r"at most|max allowed", re.IGNORECASE)
HELP = {
    "temperature": "set generation.temperature=1, and pairs.temperatures=[1.0], which is all that this server takes",
    "continue_final_message": "set labels.style=plain, or answer_samples of this model, or serve it with vLLM, where a "
                              "turn can be continued",
    "v1/completions": "set critique.style=chat and labels.style=chat, because this server only chats",
    "logprobs": "set answer_samples=16 of this model (models.labeller.answer_samples), so that replies are sampled and "
                "counted, or serve it with logprobs, as vLLM does, or name a model folder: labels are read from them",
}
NO_SYSTEM = re.compile(r"system.{0,10}(role|message|prompt|turn)|role.{0,12}system|only user and assistant",
                       re.IGNORECASE)
ALTERNATE = re.compile(r"roles?.{0,12} must alternate", re.IGNORECASE)
log = logging.getLogger(__name__)


class Worded(NamedTuple):
    """The body of a request as it is sent. ``adapted``: how it differs from what was asked for, and why."""

    body: bytes
    adapted: tuple[str, ...]


class Dialect:
    """Writes the bodies of requests as the servers of one model take them."""

    def __init__(self) -> None:
        self._renamed: dict[str, str] = {}
        self._left_out: set[str] = set()
        self._family = Family()  # which turns are taken
        self._logprobs = 0  # the most that may be asked for; 0: as many as we like
        self._why: dict[str, str] = {}  # by field: what is done about it, and the server's sentence

    def __call__(self, fields: Mapping[str, Any]) -> Worded:
        taken = self._taken(fields)
        return Worded(msgspec.json.encode(taken), tuple(self._why[k] for k, v in fields.items() if taken.get(k) != v))

    def _taken(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        taken = {self._renamed.get(k, k): v for k, v in fields.items() if not self._omits(k, fields)}
        for name in ("top_logprobs", "logprobs"):
            if self._logprobs and type(taken.get(name)) is int:
                taken[name] = min(taken[name], self._logprobs)
        if self._family != Family() and "messages" in taken:
            taken["messages"] = self._family.taken(taken["messages"])
        return taken

    def learn(self, refusal: str, fields: Mapping[str, Any]) -> None:
        """Adapt to a refusal of these fields, if it names one that can be said in another way or left unsaid."""
        if "messages" in fields:
            self._learn_turns(refusal, fields)
        if not REFUSES.search(refusal):
            return
        if _names(refusal, "max_tokens") and "max_completion_tokens" in refusal and not self._renamed:
            self._renamed["max_tokens"] = "max_completion_tokens"
            self._adapt(fields, "max_tokens is sent as max_completion_tokens", refusal, "max_tokens")
        for name in ("seed", "temperature"):
            if _names(refusal, name) and name in fields and name not in self._left_out:
                self._left_out.add(name)
                self._adapt(fields, f"{name} is left out", refusal, name)
        if _names(refusal, "top_logprobs") or _names(refusal, "logprobs") or "sample logprobs" in refusal:
            self._fewer_logprobs(refusal, fields)

    def _learn_turns(self, refusal: str, fields: Mapping[str, Any]) -> None:
        """A system text goes with the first turn of the user; turns of one role that follow each other are joined."""
        roles = {message["role"] for message in fields["messages"]}
        if (NO_SYSTEM.search(refusal) or ALTERNATE.search(refusal)) and "system" in roles and (
                self._family.system == "taken"):
            self._family = replace(self._family, system="refused")
            self._adapt(fields, "the system text is joined to the first turn of the user", refusal, "messages")
        elif ALTERNATE.search(refusal) and self._family.repeats == "taken":
            self._family = replace(self._family, repeats="refused")
            self._adapt(fields, "neighboring turns of one role are joined", refusal, "messages")

    def _fewer_logprobs(self, refusal: str, fields: Mapping[str, Any]) -> None:
        asked = max(int(fields.get(name) or 0) for name in ("top_logprobs", "logprobs"))
        offered = [int(n) for n in re.findall(r"\b\d{1,2}\b", refusal) if 1 < int(n) < (self._logprobs or asked)]
        if offered:
            self._logprobs = max(offered)
            self._adapt(fields, f"at most {self._logprobs} logprobs are asked for", refusal, "top_logprobs", "logprobs")

    def _omits(self, name: str, fields: Mapping[str, Any]) -> bool:
        """A temperature is left out only where that says the same: 1, or of a score, which does not depend on it."""
        same = name != "temperature" or fields["temperature"] == 1 or "logprobs" in fields
        return name in self._left_out and same

    def _adapt(self, fields: Mapping[str, Any], what: str, refusal: str, *names: str) -> None:
        """Remember why, for every call that it changes, and say it if that is so of the one refused."""
        why = f"{what}, because the server said: {refusal}"
        self._why |= dict.fromkeys(names, why)
        if why in self(fields).adapted:
            log.warning("from now on %s", why)


def helped(refusal: str) -> str:
    """A refusal, with the setting that helps if one does."""
    return refusal + next((f"; {how}" for word, how in HELP.items() if word in refusal and REFUSES.search(refusal)), "")


def _names(refusal: str, field: str) -> bool:
    return bool(re.search(rf"['\"`]{field}['\"`]|arguments? supplied: [\w, ]*\b{field}\b", refusal))
