"""``cai agreement`` and ``cai rank``: what they print of known labelers and known comparisons, and how they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from judges import Rule, ask_by
from labellers import Score, first_place, right_in, scripted, write_comparisons
from test_evaluate import frame
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.evals.evaluate import evaluate
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, Records
from cai_assets.versions.snapshots import Snapshots

SCRIPTED = ("--set", "models.generator={backend: scripted, source: x}")
N = 200


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path / "data"))
    return tmp_path


def agreement(root: Path, *arguments: str, n: int = N) -> dict[str, Any]:
    path = write_comparisons(root / "people.jsonl", n)
    result = CliRunner().invoke(app, ["agreement", "harmlessness", "--file", str(path), "--pairs", str(n), "--json",
                                      *SCRIPTED, *arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def answers_by(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cai_assets.engines.scripted.Scripted", lambda *_, **__: scripted(score))


@pytest.mark.parametrize("share", [0.6, 0.85])
def test_a_labeller_of_known_accuracy_comes_out_within_its_interval(
    root: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    answers_by(right_in(share), monkeypatch)
    found = agreement(root, "--out", str(root / "page.html"))
    result = found["result"]
    accuracy = result["accuracy_debiased"]
    assert accuracy["low"] <= share <= accuracy["high"]
    assert result["kappa_low"] <= 2 * share - 1 <= result["kappa_high"]
    assert (result["n"], result["consistency"]["value"], found["verdict"]) == (N, 1.0, "better")
    assert sum(p["n"] for p in found["by_principle"].values()) == N
    assert all(d["chosen_by_labeller"].startswith("bad") and d["sure"] > 0.5 for d in found["disagreements"])
    page = (root / "page.html").read_text(encoding="utf-8")
    assert "Reliability diagram" in page
    assert page.count("<svg") >= 4
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert found["about"]["command"] in page.replace("&#39;", "'")


def test_chance_gives_a_kappa_near_nought_and_claims_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = agreement(root)
    assert chance["result"]["kappa_low"] <= 0 <= chance["result"]["kappa_high"]
    assert abs(chance["result"]["kappa"]) < 0.15
    assert chance["verdict"] == "no difference seen"
    answers_by(first_place, monkeypatch)
    place = agreement(root, "--set", "seed=1")
    assert place["result"]["kappa"] == pytest.approx(0)
    assert place["result"]["consistency"]["value"] == 0
    assert place["verdict"] == "no difference seen"


def test_few_pairs_are_too_few_and_the_bundled_ones_are_enough(root: Path) -> None:
    result = CliRunner().invoke(app, ["agreement", "--pairs", "40", *SCRIPTED])
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "40 pairs are too few to judge a labeler by: use 100 or more." in said
    assert "too few to tell" in said
    pages = list((root / "data" / "reports" / "agreement").glob("harmlessness-*.html"))
    assert len(pages) == 1
    bundled = CliRunner().invoke(app, ["agreement", "--json", *SCRIPTED])
    assert json.loads(bundled.stdout)["result"]["n"] >= 100


@pytest.mark.parametrize(("arguments", "why"), [
    (["agreement", "nothing"], "nothing"), (["agreement", "--file", "absent.jsonl"], "absent.jsonl"),
    (["rank", "nothing"], "nothing"),
    (["rank", "x", "--question", "beauty"], "--question beauty: use one of harmlessness, helpfulness")])
def test_what_is_not_there_is_refused_by_name(root: Path, arguments: list[str], why: str) -> None:
    result = CliRunner().invoke(app, [*arguments, *(SCRIPTED if arguments[0] == "agreement" else ())])
    assert result.exit_code == 2
    assert why in " ".join(result.output.split())


def test_a_file_without_a_comparison_is_an_error_with_the_reasons(root: Path) -> None:
    path = root / "people.jsonl"
    rows = [{"ask": "x", "good": "y", "bad": "z"}, {"prompt": "x", "chosen": "y", "label": "tie", "rejected": "z"},
            {"ask": "v", "good": "y", "bad": "z"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    result = CliRunner().invoke(app, ["agreement", "--file", str(path), *SCRIPTED])
    said = " ".join(result.output.split())
    assert result.exit_code == 1
    assert "none of the 3 rows of the file is a comparison: 2 x no comparison" in said
    assert "the columns are ask, good, bad" in said
    assert "1 x a tie" in said
    columns = "gate.columns={prompt: ask, chosen: good, rejected: bad}"
    named = CliRunner().invoke(app, ["agreement", "--file", str(path), *SCRIPTED, "--set", columns])
    assert named.exit_code == 0, named.output
    assert "1 of 3 rows of the file are no usable comparisons: a tie" in " ".join(named.output.split())


# Ranking.


def better(words: dict[str, float]) -> Rule:
    """A judge that goes by one word's worth, and is sure of nothing: a hash of the answers decides."""
    def rule(question: str, a: str, b: str) -> float:
        worth = [next(w for word, w in words.items() if word in x) for x in (a, b)]
        noise = (hash_of("".join(sorted((a, b)))) - 0.5) * (1 if a < b else -1)
        return 0.9 if worth[0] - worth[1] + noise > 0 else 0.1
    return rule


def hash_of(text: str) -> float:
    from hashlib import blake2b

    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32


WORTH = {"plain": 0.0, "nice": 0.2, "lovely": 0.3, "rude": -0.3}


def store(
    root: Path, label: str, responses: dict[str, pl.DataFrame], *, judge: str = "j", rule: Rule | None = None
) -> str:
    layout = Layout(root / "data")
    version = Snapshots(layout).register(Constitution(name="c", version=label, principles=(
        Principle(id="p", preference=f"Prefer {label}."),)))
    metrics, rows = evaluate(responses, ask=ask_by(rule or better(WORTH)), style="plain")
    records = Records(layout)
    digest, path = records.save_table("evaluation", metrics)
    _, rows_path = records.save_table("evaluation_rows", rows)
    records.add(Record(asset="evaluation", partition=version, digest=digest, path=layout.relative(path),
                       settings={"models": {"judge": {"source": judge}}, "labels": {"style": "plain"}},
                       details={"rows": layout.relative(rows_path)}))
    return version


def answers(word: str, n: int = 60, tag: str = "") -> pl.DataFrame:
    key = pl.format("{}-{}", "row_key", pl.lit(word + tag))
    return frame([f"{word} {i}" for i in range(n)]).with_columns(row_key=key)


def ranked(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["rank", *arguments, "--question", "harmlessness", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["harmlessness"]


def test_policies_of_two_versions_stand_in_one_table(root: Path) -> None:
    shared = {"base": answers("plain"), "sft_baseline": answers("rude")}
    one = store(root, "v1", {**shared, "sl_policy": answers("nice"), "rl_policy": answers("nice", tag="2")})
    two = store(root, "v2", {**shared, "sl_policy": answers("nice"), "rl_policy": answers("lovely")})
    found = ranked(one, two)
    assert [p["policy"] for p in found["policies"]][-1] == "sft_baseline"
    assert {p["policy"] for p in found["policies"]} == {
        "base", "sft_baseline", "sl_policy", f"rl_policy@{one}", f"rl_policy@{two}"}
    assert found["prompts"] == 60
    assert found["comparisons"] == 60 * 6  # four policies against base, and two RL policies against the SL policy
    by_name = {p["policy"]: p for p in found["policies"]}
    assert by_name[f"rl_policy@{two}"]["verdict"] == "better"
    assert by_name["sft_baseline"]["verdict"] == "worse"
    assert by_name["base"]["strength"]["value"] == 0
    result = CliRunner().invoke(app, ["rank", one, two])
    assert result.exit_code == 0
    assert "harmlessness: 360 comparisons on 60 prompts" in result.output
    assert "no comparison on helpfulness was graded" in result.output
    again = next(p for p in found["policies"] if p["policy"] == f"rl_policy@{one}")
    assert 0 < again["detectable"] < 0.5


def test_other_prompts_other_judges_and_few_prompts_are_told(root: Path) -> None:
    one = store(root, "v1", {"base": answers("plain"), "rl_policy": answers("nice")})
    other = store(root, "v2", {"base": answers("plain", tag="other"), "rl_policy": answers("nice")})
    judged = store(root, "v3", {"base": answers("plain"), "rl_policy": answers("nice")}, judge="another")
    few = store(root, "v4", {"base": answers("plain", n=8), "rl_policy": answers("lovely", n=8)})
    for version, why in ((other, "share no base responses"), (judged, "were judged differently")):
        result = CliRunner().invoke(app, ["rank", one, version])
        assert result.exit_code == 2
        assert why in " ".join(result.output.split())
    policy = next(p for p in ranked(few)["policies"] if p["policy"] == "rl_policy")
    assert (policy["strength"]["value"], policy["verdict"]) == (None, "too few to tell")
    assert "8 prompts, 20 needed" in policy["why"] or "every comparison" in policy["why"]
    helpless = CliRunner().invoke(app, ["rank", one, "--question", "helpfulness"])
    assert helpless.exit_code == 2
    assert "no comparison on helpfulness was graded" in helpless.output


def test_a_clean_sweep_is_named_and_not_invented(root: Path) -> None:
    version = store(root, "v1", {"base": answers("plain"), "rl_policy": answers("lovely")},
                    rule=lambda q, a, b: 0.9 if "lovely" in a else 0.1)
    policy = next(p for p in ranked(version)["policies"] if p["policy"] == "rl_policy")
    assert policy["strength"] == {"value": None, "low": None, "high": None}
    assert policy["why"].startswith("won every comparison")
