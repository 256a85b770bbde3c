"""The constitutions of this repository load, lint clean and fit small windows; the schema file is up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cai_assets.constitution import cases_schema
from cai_assets.constitution.cases import CasesError, cases_path, load_cases, parse_cases
from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.lint import lint, lint_cases
from cai_assets.constitution.load import ConstitutionError, load_file, parse
from cai_assets.constitution.schema import PATH, render, schema
from cai_assets.versions.snapshots import constitution_files

FILES = constitution_files(Path(__file__).parents[2] / "constitutions")
by_name = pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])


def test_all_are_here() -> None:
    assert {f.stem for f in FILES} >= {"harmlessness", "customer-service", "red-team", "plain-speech", "neutral"}


@by_name
def test_loads_and_lints_clean(file: Path) -> None:
    c = load_file(file)
    assert lint(c) == []
    assert partition_key(c).startswith(f"{file.stem}-{c.version}-")


@by_name
def test_every_principle_trains_in_both_phases_or_only_judges(file: Path) -> None:
    c = load_file(file)
    trains = tuple(p for p in c.principles if p.critique or p.preference)
    assert c.taking_part("critique") == c.taking_part("preference") == trains
    assert {*trains, *c.taking_part("evaluation")} == set(c.principles)


def test_red_team_has_principles_that_train_nothing() -> None:
    c = load_file(next(f for f in FILES if f.stem == "red-team"))
    assert len([p for p in c.taking_part("evaluation") if not (p.critique or p.preference)]) == 3


@by_name
def test_few_shots_fit_a_small_window(file: Path) -> None:
    """About 4 characters a token: 600 tokens of revisions, 500 of comparisons."""
    shots = load_file(file).few_shots
    assert 0 < sum(len(t) for s in shots.revision for t in s.model_dump(exclude_none=True).values()) < 2_400
    assert 0 < sum(len(t) for s in shots.preference for t in s.model_dump(exclude_none=True).values()) < 2_000
    assert any(s.response == s.revision for s in shots.revision), "one shot should leave a good answer as it is"


@by_name
def test_names_the_schema_for_editors(file: Path) -> None:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    assert (file.parent / first.partition("$schema=")[2]).resolve() == PATH


def test_harmlessness_has_the_paper_s_number_of_principles() -> None:
    assert len(load_file(next(f for f in FILES if f.stem == "harmlessness")).principles) == 16


def test_the_schema_file_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == render(), "run: python -m cai_assets.constitution.schema"


def test_the_schema_describes_the_file() -> None:
    assert "name" not in schema()["properties"]
    assert schema()["required"] == ["version"]
    assert schema()["anyOf"] == [{"required": ["principles"]}, {"required": ["articles"]}]


@by_name
def test_the_schema_accepts_what_the_loader_accepts(file: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(yaml.safe_load(file.read_text(encoding="utf-8")), schema())


@pytest.mark.parametrize("principle", [
    {"id": "a", "critique": "x"},
    {"id": "a", "critique": "x", "revision": None},
    {"id": "a", "critique": "x", "evaluation": "x"},
    {"id": "a", "evaluation": None},
    {"id": "A", "preference": "x"},
    {"id": "a"},
    {"id": "a", "preference": "x", "weight": 0},
    {"id": "a", "preferenc": "x"},
])
def test_schema_and_loader_refuse_the_same(principle: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    file = {"version": "v1", "principles": [principle]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(file, schema())
    with pytest.raises(ConstitutionError):
        parse(yaml.safe_dump(file).replace("version: v1", 'version: "v1"'), name="c")


@by_name
def test_every_principle_has_a_test_that_can_act(file: Path) -> None:
    c = load_file(file)
    cases = load_cases(cases_path(file.parent, file.stem), c)
    assert lint_cases(c, cases) == []
    first = cases_path(file.parent, file.stem).read_text(encoding="utf-8").splitlines()[0]
    assert (file.parent / first.partition("$schema=")[2]).resolve() == cases_schema.PATH


def test_the_schema_file_of_tests_is_up_to_date() -> None:
    assert cases_schema.PATH.read_text(encoding="utf-8") == cases_schema.render(), (
        "run: python -m cai_assets.constitution.cases_schema")


@by_name
def test_the_schema_of_tests_accepts_what_the_loader_accepts(file: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    tests = cases_path(file.parent, file.stem).read_text(encoding="utf-8")
    jsonschema.validate(yaml.safe_load(tests), cases_schema.schema())


@pytest.mark.parametrize("case", [
    {"id": "a", "principle": "p", "prompt": "x"},
    {"id": "a", "principle": "p", "must": [{"refuse": True}]},
    {"id": "a", "principle": "p", "prompt": "x", "messages": [{"role": "user", "content": "x"}], "good": "x",
     "bad": "y"},
    {"id": "a", "principle": "p", "prompt": "x", "good": "x"},
    {"id": "a", "principle": "p", "prompt": "x", "must": [{}]},
    {"id": "a", "principle": "p", "prompt": "x", "must": [{"refuse": True, "max_words": 3}]},
    {"id": "a", "principle": "p", "prompt": "x", "must": [{"refuses": True}]},
    {"id": "a", "principle": "p", "prompt": "x", "must": [{"max_words": 0}]},
    {"id": "a", "principle": "p", "prompt": "x", "must": [{"stay_on_topic": False}]},
    {"id": "a", "principle": "p", "prompt": "x", "must": {"refuse": True}},
    {"id": "a", "principle": "p", "prompt": "x", "must_not": [{"max_words": 3}]},
    {"id": "a", "principle": "p", "prompt": "x", "must": [{"contain": []}]},
])
def test_schema_and_loader_refuse_the_same_tests(case: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"cases": [case]}, cases_schema.schema())
    with pytest.raises(CasesError):
        parse_cases(yaml.safe_dump({"cases": [case]}))
