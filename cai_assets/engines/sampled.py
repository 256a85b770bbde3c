"""Scoring questions answered by sampling, for models whose servers give no log-probabilities.

A scoring call becomes several generating ones at temperature 1, and the share of their replies that name an answer
stands for its probability, of which it is an unbiased estimate (a coin, with the standard error of one: at most
0.5/sqrt(n)). The call's opening of the answer is not prefilled, which servers that only chat cannot do, but asked for.
A reply that names none of the answers, or several, is unread: it counts for none, and how many there were is kept.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cai_assets.engines.around import Around
from cai_assets.engines.protocol import (
    NOT_YET,
    Call,
    Engine,
    Message,
    ModelIdentity,
    Request,
    Result,
    Sampled,
    Sampling,
)
from cai_assets.store.canonical import tagged_hash

UNREAD = "unread"  # the name under which a row's text counts replies that named no answer
PUNCTUATION = " \t\r\n().,:;!?*_`\"'[]{}#<>-"


class SampledAnswers(Around):
    """An engine whose scoring calls are answered by sampling; generating calls go through as they are."""

    def __init__(self, engine: Engine, sampled: Sampled) -> None:
        super().__init__(engine)
        self.sampled = sampled

    @property
    def identity(self) -> ModelIdentity:
        return self.engine.identity.model_copy(update={"sampled": self.sampled})

    def run(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yield one result for each request. One failed sample fails its call: a share of fewer means less."""
        whole: dict[str, _Poll] = {}
        for result in self.engine.run(self._samples(requests, whole)):
            key = result.row_key.partition("#")[0]
            poll = whole[key]
            poll.results.append(result)
            if len(poll.results) == poll.wanted:
                yield whole.pop(key).result()

    def _samples(self, requests: Iterable[Request], whole: dict[str, _Poll]) -> Iterator[Request]:
        for request in requests:
            if request is NOT_YET:
                yield request
                continue
            if request.call.sampling is not None:
                whole[request.row_key] = _Poll(request, 1)
                yield request
                continue
            whole[request.row_key] = _Poll(request, self.sampled.samples)
            call = asked_openly(request.call, self.sampled)
            for i in range(self.sampled.samples):
                seed = int(tagged_hash("sampled", [request.row_key, i])[-7:], 16)
                yield Request(row_key=f"{request.row_key}#{i}", seed=seed, call=call)


@dataclass
class _Poll:
    """A request, and what has come back of it."""

    request: Request
    wanted: int
    results: list[Result] = field(default_factory=list)

    def result(self) -> Result:
        if self.request.call.sampling is not None:
            return self.results[0]
        key, call = self.request.row_key, self.request.call
        if failed := next((r for r in self.results if r.error), None):
            return failed.model_copy(update={"row_key": key})
        named = Counter(answer_in(r.text, lead_of(call), call.answers) for r in self.results)
        unread = named.pop(None, 0)
        if not named:
            why = (f"none of {len(self.results)} sampled replies names one of the answers {', '.join(call.answers)}: "
                   f"the first is {self.results[0].text[:80]!r}")
            return Result(row_key=key, error=why, refused=True)
        shares = tuple(math.log(n / len(self.results)) if (n := named[a]) else -math.inf for a in call.answers)
        return Result(
            row_key=key, text=counted(named, call.answers, unread), finish="sampled", logprobs=shares,
            prompt_tokens=sum(r.prompt_tokens for r in self.results),
            completion_tokens=sum(r.completion_tokens for r in self.results),
            adapted=tuple(dict.fromkeys(a for r in self.results for a in r.adapted)))


def asked_openly(call: Call, sampled: Sampled) -> Call:
    """The call whose reply names an answer, where the scoring call reads how the next token begins one."""
    sampling = Sampling(temperature=1.0, max_tokens=sampled.max_tokens)
    if call.style == "plain":
        return Call(messages=call.messages, style="plain", sampling=sampling)
    turns, lead = _without_lead(call)
    *before, line = lead.rsplit("\n", 1) if lead else [""]
    choices = " or ".join([", ".join(call.answers[:-1]), call.answers[-1]])
    wish = (f"Reply with this line, completed by {choices}, and nothing else:\n{line}" if line
            else f"Reply with {choices}, and nothing else.")
    asked = "\n\n".join(filter(None, [turns[-1]["content"], *(b.strip("\n") for b in before), wish]))
    return Call(messages=(*turns[:-1], {"role": turns[-1]["role"], "content": asked}), sampling=sampling)


def lead_of(call: Call) -> str:
    """The line that the answer completes; empty if the call has none."""
    text = call.messages[-1]["content"] if call.style == "plain" else _without_lead(call)[1]
    return text.rsplit("\n", 1)[-1]


def answer_in(reply: str, lead: str, answers: Sequence[str]) -> str | None:
    """The answer that a reply names: as its first word (after ``lead``), in parentheses, or as its last word. None if
    there is none, or if it is not the only one."""
    rest = reply.rpartition(lead.rstrip(" ("))[2] if lead.strip() else reply
    words = len(min(answers, key=len)) > 1  # case tells a letter from an article, but 'yes' is 'Yes'
    one_of = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, answers))})(?!\w)", re.IGNORECASE if words else 0)
    found = [m for m in one_of.finditer(rest) if not _is_part(rest, m)]
    enclosed = {m[1].lower() for m in found if rest[:m.start()].endswith("(") and rest[m.end():].startswith(")")}
    named = {m[1].lower() for m in found}
    if found and _is_first(rest, found[0]):
        name = found[0][1].lower()
    elif len(enclosed or named) == 1 and (enclosed or not rest[found[-1].end():].strip(PUNCTUATION)):
        name = (enclosed or named).pop()
    else:
        return None
    return next(a for a in answers if a.lower() == name)


def _is_first(text: str, found: re.Match[str]) -> bool:
    """Whether nothing comes before it, and no word goes on after it: 'A better one' begins with an article."""
    after = text[found.end():]
    stands_alone = not after.startswith(" ") or after.strip(" ")[:1] in ("", "\n")
    return (stands_alone and not text[:found.start()].strip(PUNCTUATION)
            and not re.match(r"(or|and)\b", after.lstrip(PUNCTUATION)))


def _is_part(text: str, found: re.Match[str]) -> bool:
    """Whether it is a piece of a number: of 7.5, 7/10 or 7-8."""
    around = text[max(found.start() - 2, 0):found.start()], text[found.end():found.end() + 2]
    return bool(found[1].isdigit() and (re.fullmatch(r"\d[./-]", around[0]) or re.fullmatch(r"[./-]\d", around[1])))


def counted(named: Counter[str | None], answers: Sequence[str], unread: int) -> str:
    """The text of a sampled row: how many replies named each answer, as JSON."""
    return json.dumps({**{a: named[a] for a in answers}, UNREAD: unread})


def read_of(text: str) -> tuple[int, int]:
    """Of a sampled row's text: how many replies named an answer, and how many there were."""
    counts: dict[str, int] = json.loads(text)
    every = sum(counts.values())
    return every - counts[UNREAD], every


def _without_lead(call: Call) -> tuple[tuple[Message, ...], str]:
    if call.messages[-1]["role"] == "assistant" and len(call.messages) > 1:
        return call.messages[:-1], call.messages[-1]["content"]
    return call.messages, ""
