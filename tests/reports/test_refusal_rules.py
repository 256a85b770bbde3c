"""Refusals that two rules found are told apart: between two versions, and across all of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.evals.refusal import RULE
from cai_assets.reports.compare.sides import Side, notes
from cai_assets.reports.versions.sections import _by_older_rule
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record


def evaluated(version: str, details: dict[str, Any]) -> Side:
    record = Record(asset="evaluation", partition=version, digest="t1:0", path="tables/x", details=details)
    kind = Principle(id="kind", critique="?", revision="!")
    constitution = Constitution(name="c", version="1", description="d", principles=(kind,))
    return Side(version, version, constitution, {"evaluation": record}, Layout(Path("data")))


OLD, NEW = evaluated("c-1", {}), evaluated("c-2", {"refusal_rule": RULE})


def test_a_comparison_says_that_the_rules_differ_and_which_version_to_make_again() -> None:
    (note,) = notes(OLD, NEW)
    assert f"another rule (1 and {RULE})" in note
    assert "evaluation of c-1 again" in note
    assert notes(NEW, NEW) == notes(OLD, OLD) == []


@pytest.mark.parametrize(("sides", "left_out"), [((OLD, NEW), ["c-1"]), ((OLD,), []), ((NEW,), [])])
def test_across_versions_those_of_an_older_rule_are_left_out(sides: tuple[Side, ...], left_out: list[str]) -> None:
    every: Any = [SimpleNamespace(version=s.version, record=s.records.get) for s in sides]
    assert _by_older_rule(every, "evaluation") == left_out
    assert _by_older_rule(every, "suite_results") == []
