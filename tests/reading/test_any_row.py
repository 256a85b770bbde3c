"""Whatever stands in the columns of a row, it is read or set aside: in every use, each row comes out once."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cai_assets.evals.suites.model import SuiteFile
from cai_assets.evals.suites.rows import read_cases
from cai_assets.reading.files import RowReader
from cai_assets.settings.base import Source
from cai_assets.settings.columns import Columns
from cai_assets.steps.comparison_files import COLUMNS, read_comparisons
from cai_assets.steps.mix import mix
from cai_assets.steps.prompts import load_prompts

TEXT = st.sampled_from(["Why?", "", " ", "A", "tie", "0.5", "\n\nHuman: a\n\nAssistant: b", '[{"role": "user"}]',
                        '[{"from": "human", "value": "a"}]', "user", "gpt", "tool", "system", "test", "\ud800", "[{",
                        "9" * 400, "[[1]]"])
NUMBER = st.sampled_from([0.5, float("nan"), float("inf"), 1e300])
SMALL = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), NUMBER, TEXT)
NAMES = st.sampled_from(["role", "from", "content", "value", "text", "type", "rank", "answer", "response", "full_text",
                         "choices", "labels", "overall_score", "tool_calls"])
VALUE = st.recursive(SMALL, lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)), max_leaves=8)
WORDS = sorted(COLUMNS | {"id", "kind", "category", "split", "choices", "target", "type", "output"})
ROW = st.dictionaries(st.sampled_from(WORDS), VALUE, max_size=6)


def lines(folder: str, rows: list[Any]) -> Path:
    path = Path(folder) / "rows.jsonl"
    every = [{"prompt": "x", "response": "y"}, *rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in every), encoding="utf-8")
    return path


@hypothesis_settings(max_examples=300)
@given(st.lists(ROW, max_size=4))
def test_every_row_is_accounted_for_in_every_use(rows: list[dict[str, Any]]) -> None:
    n = len(rows) + 1
    with tempfile.TemporaryDirectory() as folder:
        path = lines(folder, rows)
        loaded, found = load_prompts([path], max_chars=500), read_comparisons(path)
        (report,) = mix([Source(path=path, share=0.5)], 10, [], seed=0, max_chars=500).reports
        suites = [read_cases(RowReader([path]), SuiteFile(name="a", kind=kind, description="x"), max_chars=500)
                  for kind in ("over-refusal", "ability", "prefill")]
    assert loaded.counts.read == loaded.counts.kept + loaded.counts.duplicates + loaded.counts.rejected == n
    assert report.read == report.usable + report.duplicates + sum(report.rejected.values()) == n
    assert [len(s.cases) + len(s.rejects) + s.skipped + s.repeats for s in suites] == [n] * 3
    assert found.rows - found.rejects.height <= found.frame.height
    assert found.rejects["reason"].str.len_chars().min() or not found.rejects.height


@hypothesis_settings(max_examples=100)
@given(ROW, st.dictionaries(st.sampled_from(list(Columns.model_fields)), st.sampled_from(WORDS), max_size=4))
def test_any_map_of_columns_sets_a_row_aside_at_worst(row: dict[str, Any], named: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, columns = lines(folder, [row, dict.fromkeys(named.values())]), Columns(**named)
        assert load_prompts([path], max_chars=500, columns=columns).counts.read == 3
        assert read_comparisons(path, columns=columns).rows <= 3


@pytest.mark.parametrize("deep", ["[" * 5000, '[{"a":' * 3000])
def test_a_text_that_nests_too_deeply_is_a_text(deep: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": deep, "history": deep}) + "\n")
    assert load_prompts([tmp_path / "a.jsonl"], max_chars=100_000).counts.read == 1
