"""What policies answer to a prompt that a person writes, as rows of the store.

The calls are the evaluation's: its step, its sampling, its seed. So a prompt that was asked before costs nothing,
whoever asked it, and a held-out prompt is answered as the evaluation has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from cai_assets.assets import BASE, TRAINED, partition_of
from cai_assets.engines.protocol import Call, Engine, Message
from cai_assets.errors import CaiError
from cai_assets.pipeline.context import Context
from cai_assets.pipeline.evaluation import answer_sampling
from cai_assets.pipeline.project import Project
from cai_assets.steps.complete import Completer, Row
from cai_assets.steps.respond import RESPOND
from cai_assets.store.records import RecordMissing


class Who(NamedTuple):
    """A policy and its engine. ``version``: None for one that no version owns."""

    policy: str
    version: str | None
    engine: Engine


def whom(project: Project, versions: Sequence[str]) -> list[Who]:
    """The base model, and each policy that was trained for some versions, once.

    Raise UnknownVersion, or CheckpointGone.
    """
    found = {BASE: Who(BASE, None, project.engines.open(project.settings.models.role("policy")))}
    for version in versions:
        project.snapshots.load(version)
        for policy in TRAINED:
            try:
                made = Context(project, version).checkpoint(policy)
            except RecordMissing:
                continue
            where = partition_of(policy, version)
            if made:
                found.setdefault(f"{policy}@{where}", Who(policy, where, project.engines.open_checkpoint(made.path)))
    return list(found.values())


def ask(project: Project, who: Sequence[Who], prompt: str, complete: Callable[[Engine], Completer]) -> list[Row]:
    """The answer of each. ``complete``: asks its engine, or only looks keys up. Raise CaiError for an empty prompt."""
    if not prompt.strip():
        raise CaiError("the prompt is empty: write what to ask")
    call = Call(messages=(Message(role="user", content=prompt),), sampling=answer_sampling(project.settings))
    return [complete(one.engine)(RESPOND, [call], what=one.policy)[0] for one in who]
