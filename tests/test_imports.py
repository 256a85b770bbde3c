"""Imports go one way: the contract that make lint runs is the table of docs/architecture.md, and heavy libraries wait.

The layers themselves are checked by import-linter; here is what it cannot say.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "cai_assets"
HEAVY = {"torch", "vllm", "transformers", "trl", "peft", "accelerate", "datasets", "safetensors"}
# Loaded by the training process alone, which needs them whatever it trains.
ONLY_TRAINING = {f"train/{name}.py" for name in (
    "callbacks", "dpo", "grpo", "held_out", "ppo", "rloo", "rollouts", "soft_reward", "supervised_term", "value_model")}


def documented() -> list[set[str]]:
    """Layers of the table, from the top down, each a set of module names."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("## Where code lives")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [{re.sub(r"(/|\.py)$", "", name) for name in re.findall(r"`([^`]+)`", cell)} for cell in cells]


def contracted() -> list[set[str]]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = [c["layers"] for c in config["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    return [{name.strip() for name in layer.split("|")} for layer in layers]


def heavy_at_load() -> Iterator[str]:
    """Modules that import a heavy library when they are imported."""
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if HEAVY & {name.partition(".")[0] for node in tree.body for name in _imported(node)}:
            yield path.relative_to(SOURCE).as_posix()


def _imported(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_the_table_is_the_contract_and_names_everything() -> None:
    assert documented() == contracted()
    there = {p.stem for p in SOURCE.glob("*.py") if p.stem != "__init__"}
    there |= {p.parent.name for p in SOURCE.glob("*/__init__.py")}
    assert set().union(*documented()) == there


def test_heavy_libraries_are_imported_when_they_are_used() -> None:
    assert set(heavy_at_load()) == ONLY_TRAINING
