"""docs/data.md: every example on it is read, and its tables are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.reading.forms import PACKED, SUFFIXES
from cai_assets.reading.names import KINDS, SPLITS
from cai_assets.reading.rows import ANSWERS, PROMPTS
from cai_assets.reading.turns import ROLES
from cai_assets.settings import Settings
from cai_assets.settings.base import Source
from cai_assets.settings.columns import READ
from cai_assets.steps.benchmark_files import read_benchmark
from cai_assets.steps.comparison_files import read_comparisons
from cai_assets.steps.mix import mix
from cai_assets.steps.prompts import load_prompts

PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")


def example(kind: str, folder: Path) -> tuple[Path, int]:
    """The rows of an example as a file, and how many there are."""
    (rows,) = re.findall(rf'```json title="{kind}"\n(.*?)```', PAGE, re.DOTALL)
    path = folder / "rows.jsonl"
    path.write_text(rows, encoding="utf-8")
    return path, rows.count("\n")


def test_every_prompt_is_read(tmp_path: Path) -> None:
    path, n = example("prompts", tmp_path)
    loaded = load_prompts([path], max_chars=8000)
    assert loaded.rejects["reason"].to_list() == []
    assert loaded.counts.kept == n


def test_every_conversation_is_read(tmp_path: Path) -> None:
    path, n = example("conversations", tmp_path)
    (report,) = mix([Source(path=path, share=0.9)], 10, [], seed=0, max_chars=8000).reports
    assert (report.usable, dict(report.rejected)) == (n, {})


def test_every_comparison_is_read(tmp_path: Path) -> None:
    path, n = example("comparisons", tmp_path)
    read = read_comparisons(path)
    assert read.rejects["reason"].to_list() == []
    assert (read.rows, read.frame.height) == (n - 1, n - 1 + 2)  # two ratings are one pair; one row holds three
    assert {"With a needle.", "Oak.", "Wren.", "Trout.", "Tagus.", "Como.", "Box Hill.", "Baltic.", "Hello.", "(B)",
            "Lyon.", "Tin.", "Vega.", "Hello!"} < set(read.frame["chosen"])


def test_every_row_of_a_benchmark_is_read_in_its_shape(tmp_path: Path) -> None:
    path, n = example("benchmarks", tmp_path)
    read = read_benchmark(path, limit=n)
    assert read.rejects["reason"].to_list() == []
    assert {task.kind: (task.category, len(task.matches)) for task in read.tasks} == {
        "best": ("Factuality", 3), "ties": ("Ties", 7), "styles": ("chat", 9), "pair": ("livebench-reasoning", 1),
        "ladder": ("all", 6)}


def test_the_settings_on_the_page_are_settings() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert Settings.model_validate(yaml.safe_load(text)).gate.columns.label == "better"


def test_the_settings_that_are_printed_show_where_columns_can_be_named() -> None:
    printed = CliRunner().invoke(app, ["settings", "--set", "gate.columns={prompt: ask}"])
    shown = yaml.safe_load(printed.stdout)
    assert (shown["prompts"]["columns"], shown["gate"]["columns"]) == ({}, {"prompt": "ask"})
    assert Settings.model_validate(shown).gate.columns.prompt == "ask"


def test_the_page_names_every_word_that_is_known() -> None:
    named = set(re.findall(r"`([^`\n]+)`", PAGE))
    words = {*SUFFIXES, *PACKED, *SPLITS, *KINDS, *PROMPTS, *ANSWERS, *ROLES, *set().union(*READ.values())}
    assert {word for word in words if word not in named and word.lower() not in named} <= {
        "redteam", ".jsonlines", "dialog"}
