"""A measure is declared once: pages, tables and Inspect read it there, and a package of one's own adds one."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from registry.extensions import install
from suites_made import answered, cases, judged, made

from cai_assets.engines.scripted import Scripted
from cai_assets.evals.measures import (
    EVALUATION,
    SUITE_MEASURES,
    MeasureError,
    better_is,
    evaluation_measure,
    headlines_on,
    label_of,
    measures_on,
)
from cai_assets.evals.statistics import Direction
from cai_assets.evals.suites.measures import SUITE_ROWS, rows_schema
from cai_assets.evals.suites.metrics import suite_metrics
from cai_assets.evals.suites.model import ATTACK, HEADLINE
from cai_assets.evals.suites.registry import SuitesError, load_suites
from cai_assets.registry.base import NotRegistered

DOCS = Path(__file__).parents[2] / "docs"
SORRY = "I'm sorry, here it is: first one thing, then the other."


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def documented(site: Path, module: str, **changed: str) -> None:
    """Install the example of docs/extend.md as a package, under a module's name of its own."""
    section = (DOCS / "extend.md").read_text(encoding="utf-8").partition("## A measure of the suites")[2]
    code, project = re.findall(r"```(?:python|toml)\n(.*?)```", section, flags=re.DOTALL)[:2]
    for old, new in changed.items():
        code = code.replace(old, new)
    line = project.strip().splitlines()[-1].replace("apologies:", f"{module}:").replace('"', "")
    install(site, {f"{module}.py": code}, {"cai_assets.measures": line})


def measured(root: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    suites = [made(root, "plain", cases=cases(30)), made(root, "kind", kind="helpful", cases=cases(60)[30:])]
    engines = {"base": Scripted("b", reply=lambda *_: SORRY), "rl_policy": Scripted("p", reply=lambda *_: "Here.")}
    rows = judged(root, answered(root, suites, engines), Scripted("j"))
    return suite_metrics(rows, suites, list(engines), enough=20, confidence=0.95), rows


def test_the_documented_example_is_measured_like_our_own(site: Path, tmp_path: Path) -> None:
    documented(site, "apologies_a")
    metrics, rows = measured(tmp_path)
    assert rows.schema == rows_schema() == pl.Schema({**SUITE_ROWS, "apologizes": pl.Float64()})
    found = {m["suite"]: m for m in metrics.filter(measure="apologizes", policy="rl_policy", mode="all").to_dicts()}
    assert {s: (m["value"], m["delta"], m["better"], m["verdict"]) for s, m in found.items()} == {
        "plain": (0.0, -1.0, "", ""), "kind": (0.0, -1.0, "lower", "better")}
    assert (label_of("apologizes"), "apologizes" in headlines_on("helpful")) == ("apologizes", True)
    chosen = made(tmp_path / "s", "mine", kind="helpful", headline="apologizes", cases=cases(3))
    assert chosen.spec.measure == "apologizes"
    assert [s.name for s in load_suites(None, ["harmful"], max_chars=8000)] == ["harmful"]


def test_the_documented_example_is_a_scorer_of_inspect(site: Path) -> None:
    if importlib.util.find_spec("inspect_ai") is None:
        pytest.skip("inspect-ai is not installed")
    from inspect_ai._util.registry import registry_info

    from cai_assets.inspect_bridge.scorers import scorer_of, scorers_on

    documented(site, "apologies_b")
    names = [registry_info(s).name for s in scorers_on("helpful", "chat")]
    own = [name for name, m in measures_on("helpful", SUITE_MEASURES.own).items() if m.of != "together"]
    assert names == [f"cai_assets/{name}" for name in (*own, "apologizes")]
    assert {"compliance", "refusal", "judged_compliance", "echo", "words"} <= {*own}
    with pytest.raises(MeasureError, match="'relevance' needs all answers together"):
        scorer_of("relevance")()


@pytest.mark.parametrize(("changed", "said"), [
    ({"SuiteMeasure(": "dict("}, "is a dict and must be a cai_assets.evals.measures.SuiteMeasure"),
    ({"import Answered, SuiteMeasure, on": "import Answered, nothing"}, "does not load"),
    ({'on(attacks="", others="lower")': '{"harmles": "lower"}'}, "better: harmles: it can be measured on"),
    ({"of=apologizes": 'of="judge"'}, "'of' must be a function of an answer"),
    ({'label="apologizes"': 'label="a", column="error"'}, "its column is one of the suites' rows already"),
])
def test_a_package_at_fault_stops_everything_before_a_model_is_called(
    site: Path, changed: dict[str, str], said: str
) -> None:
    documented(site, f"apologies_{abs(hash(said))}", **changed)
    with pytest.raises(SuitesError, match=said):
        load_suites(None, ["harmful"], max_chars=8000)


@pytest.mark.parametrize(("body", "said"), [
    ("return 3.0", "3.0 is no share from 0 to 1"), ('raise KeyError("x")', "KeyError: 'x'"),
])
def test_what_a_measure_may_not_give_is_told_with_its_case(site: Path, tmp_path: Path, body: str, said: str) -> None:
    documented(site, f"apologies_{abs(hash(said))}", **{"if not answer.text.split():\n        return None": body})
    with pytest.raises(MeasureError, match=f"'apologizes', case 'case-18': {re.escape(said)}"):
        measured(tmp_path)


def test_an_unknown_measure_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(NotRegistered, match="'complience' is no suite measure: choose one of compliance, refusal, "):
        better_is("harmful", "complience")
    with pytest.raises(NotRegistered, match="'correct' is not measured on suites of kind 'helpful': choose "):
        better_is("helpful", "correct")
    with pytest.raises(MeasureError, match="does not measure 'refusal' of 'all': it measures harmlessness_win_rate of"):
        evaluation_measure("refusal", "all")
    assert label_of("of a package that is gone") == "of a package that is gone"
    with pytest.raises(ValueError, match="give compliance, refusal, judged_compliance, echo, distinct"):
        made(tmp_path, headline="words", cases=cases(2))


def test_every_declaration_is_whole_and_every_kind_of_suite_has_its_headline() -> None:
    for kind, name in HEADLINE.items():
        assert name in headlines_on(kind)
    assert {name for name, m in SUITE_MEASURES.own.items() if ATTACK in m.better} == {
        "compliance", "refusal", "judged_compliance"}
    assert len({(m.name, m.prompts) for m in EVALUATION}) == len(EVALUATION)
    declared: list[Any] = [*EVALUATION, *SUITE_MEASURES.own.values()]
    assert all(re.fullmatch(r"[A-Z][^.]*(\.\d[^.]*)?\.", m.says) for m in declared)


WORDS: dict[Direction | None, str] = {"higher": "higher", "lower": "lower", "": "neither", None: "–"}


def test_the_docs_have_every_suite_measure() -> None:
    said = (DOCS / "suites.md").read_text(encoding="utf-8")
    for name, m in SUITE_MEASURES.own.items():
        attacks, others = m.better.get("harmful"), m.better.get("helpful", m.better.get("ability"))
        row = f"| `{name}` | {m.says} | {WORDS[attacks]} | {WORDS[others]} |"
        assert row in said, f"docs/suites.md lacks the line: {row}"


