"""The section of samples: whole chains with what each round changed, and what the policies answer. Nothing is chosen:
a hash of the prompt id draws them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from cai_assets.assets import BASE
from cai_assets.reports.escape import shorten
from cai_assets.reports.html.page import Block, Diff, Group, Missing, Passage, Text
from cai_assets.reports.version.evidence import Evidence
from cai_assets.reports.version.policies import name_of
from cai_assets.store.canonical import tagged_hash

CHAINS, ANSWERS = 4, 4
LONGEST = 1500
NO_TEXT = "(no text)"


def samples(evidence: Evidence) -> Iterator[Block]:
    """Chains first, then answers of the policies to evaluation prompts."""
    yield Text(f"Drawn by a hash of the prompt ID, not hand-picked. Texts are cut at {LONGEST:,} characters. Red-team "
               "prompts ask for harmful content; model answers may be wrong or offensive.")
    yield from _chains(evidence)
    yield from _answers(evidence)


def drawn(ids: list[str], limit: int) -> list[str]:
    """The same few ids whatever else is there."""
    return sorted(set(ids), key=lambda i: tagged_hash("sample", i))[:limit]


def _chains(evidence: Evidence) -> Iterator[Block]:
    if "revisions" in evidence.absent:
        return
    ids = evidence.side.table("revisions", "prompt_id")
    chosen = [] if ids is None else drawn(ids["prompt_id"].to_list(), CHAINS)
    mine = pl.col("prompt_id").is_in(chosen)
    responses, critiques, revisions = (evidence.side.table(a, where=mine) for a in (
        "starting_responses", "critiques", "revisions"))
    if responses is None or critiques is None or revisions is None:
        yield Missing("there are no critiques and revisions.", evidence.make("revisions"))
        return
    both = revisions.join(critiques.select("prompt_id", "round", "critique"), on=["prompt_id", "round"], how="left")
    by_prompt = {r["prompt_id"]: r for r in responses.to_dicts()}
    for i, prompt in enumerate(chosen):
        rounds = both.filter(pl.col("prompt_id") == prompt).sort("round").to_dicts()
        yield Group(f"Chain of prompt {prompt}", list(_chain(by_prompt[prompt], rounds)), folded=i > 0)


def _chain(response: dict[str, Any], rounds: list[dict[str, Any]]) -> Iterator[Block]:
    yield Passage("Prompt", cut(_said(response["messages"])))
    yield Passage("Initial response", cut(response["response"]))
    for r in rounds:
        if r["critique"]:
            yield Passage(f"Round {r['round']}: critique by {r['principle_id']}", cut(r["critique"]))
        if r["revision"]:
            yield Diff(f"Round {r['round']}: revision", cut(r["before"]), cut(r["revision"]))
        else:
            yield Text(f"Round {r['round']}, {r['principle_id']}: {r['error'] or r['stopped'] or 'no text'}.")


def _answers(evidence: Evidence) -> Iterator[Block]:
    if evidence.rows is None or evidence.policy is None:
        return
    chosen = drawn(evidence.rows["prompt_id"].to_list(), ANSWERS)
    mine = pl.col("prompt_id").is_in(chosen)
    responses = evidence.side.table("starting_responses", "prompt_id", "messages", where=mine)
    messages = {} if responses is None else dict(responses.iter_rows())
    for i, prompt in enumerate(chosen):
        own = evidence.rows.filter(pl.col("prompt_id") == prompt).unique("policy", keep="first", maintain_order=True)
        passages = [Passage(name_of(r["policy"]), cut(r["response"]), note=_verdict(r)) for r in own.to_dicts()]
        yield Group(f"Answers to evaluation prompt {prompt}",
                    [Passage("Prompt", cut(_said(messages.get(prompt, [])))), *passages], folded=i > 0)


def _verdict(row: dict[str, Any]) -> str:
    if row["policy"] == BASE or row["verdict"] is None:
        return ""
    return f"{row['verdict']} against the base model for {row['question']}" + (
        "" if row["p_win"] is None else f", probability {row['p_win']:.2f}")


def _said(messages: list[dict[str, str]]) -> str:
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)


def cut(text: str | None) -> str:
    return shorten(text, LONGEST) if text else NO_TEXT
