"""Answers of policies to one held-out prompt, from the stored rows of evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from cai_assets.assets import AGAIN, OWN
from cai_assets.pipeline.ask import whom
from cai_assets.pipeline.project import Project
from cai_assets.plan.ask import plan_ask
from cai_assets.reports.version.evidence import Evidence, evidence_of
from cai_assets.reports.version.policies import name_of
from cai_assets.store.canonical import tagged_hash
from cai_assets.store.records import RecordMissing


class Answer(NamedTuple):
    """What a policy says. ``name``: for people; the version stands in it where the policy is one version's."""

    name: str
    text: str


class Asked(NamedTuple):
    """A prompt with what each policy answers, each text of an unversioned policy once."""

    prompt: str
    messages: Sequence[Mapping[str, str]]
    kind: str
    category: str
    answers: Sequence[Answer]

    def shown(self, seed: str) -> list[Answer]:
        """The answers in the order of a page: of policies, or, blind, one that the seed shuffles."""
        if not seed:
            return list(self.answers)
        return sorted(self.answers, key=lambda a: tagged_hash("arena", [seed, self.prompt, a.name]))


def asked(project: Project, versions: Sequence[str], prompt: str = "") -> tuple[Asked, list[str]]:
    """The answers of some versions to a prompt, by default the first, and all prompts that one of them was asked.

    Raise RecordMissing if none was evaluated on it.
    """
    every = [e for v in versions if (e := evidence_of(project.layout, v)).rows is not None]
    prompts = sorted({i for e in every for i in _rows(e)["prompt_id"].to_list()})
    prompt = prompt or next(iter(prompts), "")
    found = [row for e in every for row in _rows(e).filter(pl.col("prompt_id") == prompt).to_dicts()]
    if not found:
        raise RecordMissing(f"no answers to {prompt or 'any prompt'} are stored: evaluate a version first, with cai "
                            "materialize NAME")
    answers = dict.fromkeys(a for e in every for a in _answers(e, prompt))
    return Asked(prompt, _messages(every, prompt), found[0]["kind"], found[0]["category"], list(answers)), prompts


class Own(NamedTuple):
    """A prompt that a person wrote, with the answers that are stored.

    ``missing``: how many are not; ``cost``: of these, in one line.
    """

    asked: Asked
    missing: int
    cost: str


def own(project: Project, versions: Sequence[str], text: str) -> Own:
    """What is stored of the answers to a person's own prompt, and what the others would cost. Loads no model."""
    try:
        planned = plan_ask(project, whom(project, versions), text)
    finally:
        project.close()
    answers = [Answer(name_of(one.policy) + (f" of {one.version}" if one.version else ""), row.text.strip())
               for one, row in zip(planned.who, planned.rows, strict=True) if row.text is not None]
    return Own(Asked(text, [{"role": "user", "content": text}], "your own", "", answers), planned.missing, planned.cost)


def _answers(evidence: Evidence, prompt: str) -> Iterator[Answer]:
    rows = _rows(evidence).filter(pl.col("prompt_id") == prompt).unique("policy", keep="first", maintain_order=True)
    for row in rows.to_dicts():
        if row["policy"] != AGAIN and row["response"]:
            of = f" of {evidence.version}" if row["policy"] in OWN else ""
            yield Answer(f"{name_of(row['policy'])}{of}", row["response"])


def _messages(every: Sequence[Evidence], prompt: str) -> list[dict[str, str]]:
    for evidence in every:
        table = evidence.side.table("starting_responses", "messages", where=pl.col("prompt_id") == prompt)
        rows = [] if table is None else table["messages"].to_list()
        if rows:
            return [dict(m) for m in rows[0]]
    raise RecordMissing(f"the text of prompt {prompt} is not stored any more: cai materialize {every[0].version}")


def _rows(evidence: Evidence) -> Any:
    return evidence.rows
