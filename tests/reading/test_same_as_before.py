"""What was read before this reader is read the same: rows, ids and digests, and so every key below them."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl

from cai_assets.evals.gate import BUNDLED as PAIRS
from cai_assets.evals.suites.registry import load_suites
from cai_assets.settings.base import Source
from cai_assets.steps.comparison_files import read_comparisons
from cai_assets.steps.mix import mix
from cai_assets.steps.prompts import load_prompts

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a fen?"},
         {"role": "assistant", "content": "A wetland."}, {"role": "user", "content": "Where is one?"}]
ROWS: list[dict[str, Any]] = [
    {"id": "own", "prompt": " Where is Lima? ", "kind": "harmless", "category": "facts"},
    {"messages": TURNS, "split": "test"},
    {"instruction": "Shorten.", "input": "A long text."}, {"conversations": [{"from": "human", "value": "Why?"}]},
    {"prompt": "Why is the sky blue?", "response": "Scattering."}, {"text": "Human: as it stands"}]
ANSWERED = [{"messages": [*TURNS, {"role": "assistant", "content": "In Norfolk."}]},
            {"prompt": "Why?", "completion": "So."},
            {"instruction": "Shorten.", "input": "A long text.", "output": "Text."}]


def digest(frame: pl.DataFrame) -> str:
    return sha256(frame.write_json().encode()).hexdigest()[:16]


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_bundled_sample_and_comparisons() -> None:
    assert digest(load_prompts(max_chars=8000).frame) == "f34c90ea2e0ac6c7"
    columns = ("pair_id", "prompt_id", "messages", "chosen", "rejected")
    assert digest(read_comparisons(PAIRS).frame.select(columns)) == "e49604930a75517d"


def test_the_bundled_suites() -> None:
    found = {suite.name: suite.digest.rpartition(":")[2][:8] for suite in load_suites(None, (), max_chars=8000)}
    assert found == {
        "ability": "bc10d3c1", "harmful": "40010d3e", "helpful": "1dc92b86", "jailbreak": "aa787be3",
        "over-refusal": "4e9ff6bd", "prefill": "1ba207ce"}


def test_the_forms_of_prompts_and_answers_that_were_known(tmp_path: Path) -> None:
    assert digest(load_prompts([written(tmp_path, ROWS)], max_chars=8000).frame) == "f1954425007cb399"
    rows = mix([Source(path=written(tmp_path, ANSWERED), share=0.9)], 10, [], seed=0, max_chars=8000).rows
    assert sorted(row.name for row in rows) == [
        "general-41656a57645c969b", "general-e309a0e53d92c2fd", "general-e8e3b0d8d15079ab"]
