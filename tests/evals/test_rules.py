"""Checks decide by the text alone, count in the evaluation for every policy, and touch nothing where there are none."""

from __future__ import annotations

import pytest
from judges import ask_by, first_wins
from test_evaluate import frame, metric

from cai_assets.constitution.check import Check
from cai_assets.constitution.diff import diff
from cai_assets.constitution.digest import digest, part_digest, principle_digest
from cai_assets.constitution.file_form import as_json, as_yaml
from cai_assets.constitution.importing.importer import import_constitution
from cai_assets.constitution.load import ConstitutionError, parse
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.evals.evaluate import ROWS_SCHEMA, evaluate
from cai_assets.evals.rules import checked, keeps

SHORT = Check(max_words=3)


@pytest.mark.parametrize(("check", "kept", "broken"), [
    ({"max_words": 3}, "One two three.", "One two three four."),
    ({"min_words": 3}, "One two three.", "One two."),
    ({"match": "(?i)^yes"}, "Yes, of course", "Of course, yes"),
    ({"no_match": "!"}, "Well done.", "Well done!"),
    ({"format": "json"}, '{"a": [1, 2]}', '{"a": [1, 2'),
    ({"format": "list"}, "- one\n\n* two\n3. three", "Here is a list:\n- one"),
    ({"format": "prose"}, "One.\n\nTwo - three.", "One.\n\n- two"),
    ({"format": "paragraph"}, "One. Two.\nThree.", "One.\n\nTwo."),
    ({"max_words": 3, "no_match": "!"}, "Well done", "Well, done!"),
    ({"max_words": 3}, "a", " \n"),
])
def test_each_rule_is_kept_by_the_first_text_and_broken_by_the_second(check: dict, kept: str, broken: str) -> None:
    assert keeps(Check(**check), kept)
    assert not keeps(Check(**check), broken)


def test_a_language_is_told_or_the_error_says_what_to_install() -> None:
    principle = Principle(id="german", check=Check(language="de"))
    pytest.importorskip("lingua")
    (_, check), = checked([principle])
    assert keeps(check, "Das Haus steht seit vielen Jahren am Ende der Straße.")
    assert not keeps(check, "The house has stood at the end of the street for many years.")
    with pytest.raises(RuntimeError, match=r"principle x: the language 'qq' cannot be told: choose one of af"):
        checked([Principle(id="x", check=Check(language="qq"))])


def test_without_the_package_for_languages_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lingua", None)
    with pytest.raises(RuntimeError, match=r"pip install 'cai-assets\[language\]'"):
        checked([Principle(id="german", check=Check(language="de"))])
    assert checked([Principle(id="short", check=SHORT)]) == (("short", SHORT),)


def test_every_answer_of_every_policy_is_held_to_every_check() -> None:
    n = 30
    shorter = ["one two"] * (n - 3) + ["a b c d!"] * 3
    responses = {"base": frame(["one two three four"] * n), "rl_policy": frame(shorter)}
    checks = (("calm", Check(no_match="!")), ("short", SHORT))
    metrics, rows = evaluate(responses, ask=ask_by(first_wins), style="chat", checks=checks)
    short = metric(metrics, "rl_policy", "check", "principle:short")
    assert (short["value"], short["n"], short["delta"], short["verdict"]) == (0.9, n, 0.9, "better")
    assert metric(metrics, "base", "check", "principle:short")["value"] == 0
    assert metric(metrics, "rl_policy", "check", "principle:calm")["verdict"] == "no difference seen"
    assert metric(metrics, "rl_policy", "check", "all")["value"] == 0.9
    assert rows["kept"].to_list()[-1] == [{"principle_id": "calm", "keeps": False},
                                          {"principle_id": "short", "keeps": False}]
    without = evaluate(responses, ask=ask_by(first_wins), style="chat")
    assert dict(without[1].schema) == ROWS_SCHEMA
    assert "check" not in without[0]["metric"].to_list()
    assert without[0].equals(metrics.filter(metrics["metric"] != "check"))


def of(**facts: object) -> Constitution:
    return Constitution(name="c", version="v1", principles=(
        Principle(id="a", critique="Is it?", revision="Rewrite it.", preference="Which?", **facts),))


def test_a_check_is_part_of_the_version_and_of_nothing_that_is_asked() -> None:
    plain, ruled, other = of(), of(check=SHORT), of(check=Check(max_words=4))
    assert len({digest(c) for c in (plain, ruled, other, of(rubric="Is it short?"), of(gate=True))}) == 5
    for use in ("critique", "preference", "evaluation"):
        assert part_digest(plain, use) == part_digest(ruled, use)
        assert principle_digest(plain.principles[0], use) == principle_digest(ruled.principles[0], use)
    (change,) = diff(ruled, other).changes
    assert [(t.field, t.before, t.after) for t in change.texts] == [("check", "at most 3 words", "at most 4 words")]


def test_a_file_holds_checks_and_refuses_those_that_say_nothing() -> None:
    text = 'version: "v1"\nprinciples:\n  - id: a\n    gate: true\n    check:\n      max_words: 3\n      match: "^A"\n'
    c = parse(text, name="c")
    assert c.principles[0] == Principle(id="a", gate=True, check=Check(max_words=3, match="^A"))
    assert parse(as_yaml(c), name="c") == c
    for again, name in ((as_yaml(c), "c.yaml"), (as_json(c), "c.json")):
        assert import_constitution(again, where=name, name="c").constitution == c
    for wrong, said in (("max_words: 0", "must be a whole number from 1 to 9999"), ("format: poem", "must be"),
                        ("most_words: 3", "there is no key"), ('match: "("', "not a regular expression"),
                        ("min_words: 9\n      max_words: 3", "no answer has at least 9")):
        with pytest.raises(ConstitutionError, match=said):
            parse(text.replace('max_words: 3\n      match: "^A"', wrong), name="c")
    with pytest.raises(ConstitutionError, match="a hard rule of"):
        parse(text.partition("    check")[0] + "    evaluation: Which is kinder?\n", name="c")
