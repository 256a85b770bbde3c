"""What a policy said while it was trained, as rows: the prompt that each comes from, and every score it got.

A rollout is no call of a model that could be asked again: its policy was there for one step. Its scores are: each names
its principle, the digest of what was asked, and the keys of the judge's answers.
"""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl

from cai_assets.lineage.shapes import MESSAGES
from cai_assets.store.keys import row_id

ROLLOUTS = "rollouts"
ROLLOUTS_WRITTEN = "rollouts.jsonl"  # by the training process, in its work folder
SCORE = pl.Struct({"kind": pl.String, "principle_id": pl.String, "principle_digest": pl.String, "value": pl.Float64,
                   "error": pl.String, "row_keys": pl.List(pl.String)})
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "row_id": pl.String, "update": pl.Int64, "prompt_id": pl.String, "messages": MESSAGES, "response": pl.String,
    "reward": pl.Float64, "scores": pl.List(SCORE), "row_keys": pl.List(pl.String)}


def rollout_table(path: Path, rows: pl.DataFrame, key: str) -> pl.DataFrame:
    """SCHEMA of what a training process wrote. ``rows``: its prompts, with their ids; ``key``: of the checkpoint.

    A resumed training repeats the updates since its last saved state: of each update the newest process's rollouts
    trained.
    """
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    newest = {line["update"]: line["process"] for line in lines}
    prompts = {json.dumps(messages): prompt for prompt, messages in rows.select("prompt_id", "messages").iter_rows()}
    counts: defaultdict[int, count[int]] = defaultdict(count)
    trained = sorted((x for x in lines if x["process"] == newest[x["update"]]), key=lambda x: x["update"])
    return pl.DataFrame([_row(x, prompts.get(json.dumps(x["messages"])), key, next(counts[x["update"]]))
                         for x in trained], SCHEMA)


def _row(line: dict[str, Any], prompt: str | None, key: str, n: int) -> dict[str, Any]:
    keys = [k for score in line["scores"] for k in score["row_keys"]]
    return {**{name: line[name] for name in ("update", "messages", "response", "reward", "scores")},
            "prompt_id": prompt, "row_keys": keys,
            "row_id": row_id(f"{key}:{line['update']}:{n}", line["response"], [prompt] if prompt else [])}
