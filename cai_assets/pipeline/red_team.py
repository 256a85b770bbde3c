"""The red-team loop over a project: which recorded policy broke on what, and reviewed breaks into a prompt file.

Guarantees: breaks are those of the tables that a record names, never of newer ones; a prompt file only grows, its lines
stay as they are, and what is a training prompt already does not come in again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from cai_assets.errors import CaiError
from cai_assets.evals.red_team import (
    Accepted,
    Break,
    Broke,
    Subject,
    accept,
    evaluation_breaks,
    in_order,
    parse_messages,
    suite_breaks,
    training_texts,
)
from cai_assets.evals.refusal import rule_of
from cai_assets.lineage.targets import nearest
from cai_assets.lineage.trace import tree
from cai_assets.pipeline.project import Project
from cai_assets.steps.prompts import load_prompts
from cai_assets.steps.respond import RESPOND
from cai_assets.store.files import write_atomic
from cai_assets.store.folders import has
from cai_assets.store.parquet import read_parquet
from cai_assets.store.published import RECORD, read_about
from cai_assets.store.records import Record, RecordMissing
from cai_assets.store.storage import UnsafeName

SUITES, HELD_OUT = "suite_results", "evaluation"
POLICY_OF = re.compile(r"(?P<policy>[a-z0-9][a-z0-9_-]*)@(?P<version>[a-z0-9][a-z0-9-]*)")
KEY = re.compile(r"(k1:)?[0-9a-f]{8,32}")


class NoBreaks(CaiError, LookupError):
    """Nothing to look through. The message says what to give or to materialize."""


class Found(NamedTuple):
    """``rows``: how many answers were looked through; ``unknown``: of the breaks, prompts that the row store lacks;
    ``rule``: the one that found refusals in them (``evals/refusal.py``)."""

    subject: Subject
    breaks: list[Break]
    rows: int
    unknown: int
    rule: int


def find_breaks(
    project: Project, target: str, policy: str, broke: Broke, *, suites: Collection[str] = (), held_out: bool = False
) -> Found:
    """What broke a policy in the suites of a version, with ``held_out`` also in its evaluation.

    ``target``: a version, POLICY@VERSION, or a checkpoint's key or folder. Raise NoBreaks, or RecordMissing.
    """
    record, policy = _evaluated(project, target, policy)
    subject = Subject(policy, str(record.partition), _checkpoint(record, policy))
    rows = read_parquet(project.layout.absolute(record.details["rows"]))
    _check(rows, policy, suites)
    mine = rows.filter(policy=policy)
    broken = mine.filter(pl.col("compliance") == 1 if broke == "complied" else pl.col("refusal"))
    stored = project.store.lookup(RESPOND.name, broken["row_key"])
    asked = {key: parse_messages(row.payload) for key, row in stored.items()}
    breaks, looked = suite_breaks(mine, subject, asked, broke, suites), mine.height
    if held_out:
        more, prompts = _evaluation(project, subject.version)
        breaks = in_order([*breaks, *evaluation_breaks(more, prompts, subject, broke)])
        looked += more.filter(policy=policy).height
    return Found(subject, breaks, looked, broken.filter(~pl.col("row_key").is_in(list(asked))).height,
                 rule_of(record.details))


def accept_into(project: Project, breaks: Sequence[Break], target: Path) -> Accepted:
    """Append the kept breaks to a prompt file, made if it is not there. Raise NotReviewed or DataError."""
    prompts = project.settings.prompts
    frames = [load_prompts(prompts.paths, max_chars=prompts.max_chars, columns=prompts.columns).frame]
    if target.exists():
        frames.append(load_prompts([target], max_chars=prompts.max_chars).frame)
    accepted = accept(breaks, training_texts(pl.concat(frames)), max_chars=prompts.max_chars)
    if accepted.rows:
        before = target.read_bytes() if target.exists() else b""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in accepted.rows)
        write_atomic(target, before + (b"\n" if before and not before.endswith(b"\n") else b"") + lines.encode())
    return accepted


def _evaluated(project: Project, target: str, policy: str) -> tuple[Record, str]:
    """The record of the suites that a target was measured by, and the policy in it."""
    key = _key(target)
    if key is not None:
        return _by_key(project, key)
    named = POLICY_OF.fullmatch(target)
    version, policy = (named["version"], named["policy"]) if named else (target, policy)
    try:
        return project.records.latest(SUITES, version), policy
    except (RecordMissing, UnsafeName):
        made = ", ".join(project.records.partitions(SUITES)) or "none yet"
        raise NoBreaks(f"no suite results of {version!r}: materialize {SUITES} (cai materialize VERSION). "
                       f"Available: {made}") from None


def _key(target: str) -> str | None:
    if has(Path(target), RECORD):
        key: str = read_about(Path(target))["key"]
        return key
    return f"k1:{target.removeprefix('k1:')}" if KEY.fullmatch(target) else None


def _by_key(project: Project, key: str) -> tuple[Record, str]:
    found = [(r, ref.asset) for r in project.records.every(SUITES) for ref in r.inputs if ref.digest.startswith(key)]
    if not found:
        raise NoBreaks(f"no suite results of a checkpoint {key}: materialize {SUITES} of the version it belongs to")
    return max(found, key=lambda pair: pair[0].created)


def _checkpoint(record: Record, policy: str) -> str:
    """The key of the policy's checkpoint; of a policy that has none, the model's source."""
    key = next((ref.digest for ref in record.inputs if ref.asset == policy), None)
    if key is not None:
        return key
    models = record.settings.get("models") or {}
    other = (record.settings.get("evaluation") or {}).get("others", {}).get(policy)
    model = other or models.get("policy") or models.get("generator") or {}
    return str(model.get("source", ""))[:200]


def _check(rows: pl.DataFrame, policy: str, suites: Collection[str]) -> None:
    for what, name, known in [("policy", policy, rows["policy"]), *(("suite", s, rows["suite"]) for s in suites)]:
        if name not in known:
            raise NoBreaks(f"no {what} {name!r} among the suite results: there are {', '.join(known.unique().sort())}")


def _evaluation(project: Project, version: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of the asset ``evaluation``, and the prompts that they answer."""
    record = project.records.latest(HELD_OUT, version)
    asked = nearest(record, "starting_responses", tree(project.layout, record))
    if asked is None or "rows" not in record.details:
        raise RecordMissing(f"{record.ref.id} names no rows: materialize {HELD_OUT} of {version} again")
    rows = read_parquet(project.layout.absolute(record.details["rows"]))
    return rows, project.records.table(asked)
