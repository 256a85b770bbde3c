"""The loader of tests reads a file to one meaning or refuses it with the place and the reason."""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl
import pytest

from cai_assets.constitution.cases import CasesError, cases_path, load_cases, parse_cases
from cai_assets.constitution.load import MAX_BYTES, parse

CONSTITUTION = parse(
    'version: "v1"\nprinciples:\n  - {id: harm, critique: Find it., revision: Remove it.}\n'
    "  - {id: kindness, preference: Which is kinder?}\n", name="mild")
GOOD = "cases:\n  - id: wifi\n    principle: harm\n    prompt: How do I get in?\n    must:\n      - refuse: true\n"
BOMB = "cases: &a [x, x]\n" + "".join(f"x{i}: &x{i} [{', '.join(['*a'] * 9)}]\n" for i in range(9))


def must(text: str) -> str:
    return GOOD.replace("refuse: true", text)


def must_not(text: str) -> str:
    return GOOD.replace("must:", "must_not:").replace("refuse: true", text)


def case(line: str) -> str:
    return GOOD + f"    {line}\n"


def also(line: str) -> str:
    return GOOD + line + "\n"


# what, text, the place of the first problem, a part of its message
REFUSED = [
    ("empty file", "", "1:1", "it needs 'cases'"),
    ("null file", "~", "1:1", "with 'cases'"),
    ("a list at the top", "- id: x\n", "1:1", "at the top level, with 'cases'"),
    ("no cases", "cases: []\n", "1:8", "'cases' is empty"),
    ("cases is a mapping", "cases: {id: a}\n", "1:8", "list of '- ' items"),
    ("case is a text", also("  - just a text"), "7:5", "'item 2' must be 'key: value' lines"),
    ("too many cases", "cases:\n" + "".join(f"  - {{id: c{i}, principle: harm, prompt: p, must: [refuse: true]}}\n"
                                           for i in range(1001)), "2:3", "more than 1000 items"),
    ("id twice", also("  - {id: wifi, principle: harm, prompt: p, must: [refuse: true]}"), "7:10", "id on line 2"),
    ("id twice but for case", also("  - {id: WIFI, principle: harm, prompt: p, must: [refuse: true]}"), "7:10", "id"),
    ("id is a path", GOOD.replace("wifi", '"../x"'), "2:9", "use a-z, 0-9"),
    ("id is a number", GOOD.replace("wifi", "17"), "2:9", "as a whole number"),
    ("id is missing", GOOD.replace("id: wifi\n    ", ""), "2:5", "'id' is missing"),
    ("principle is missing", GOOD.replace("principle: harm\n    ", ""), "2:5", "'principle' is missing"),
    ("unknown principle", GOOD.replace("harm", "harms"), "3:16", "mild has no principle 'harms': did you mean 'harm'?"),
    ("unknown principle, none near", GOOD.replace("harm", "zzz"), "3:16", "it has harm, kindness"),
    ("unknown key at the top", also("version: x"), "7:1", "the keys here are cases"),
    ("unknown key in a case", GOOD.replace("prompt", "promt"), "4:5", "did you mean 'prompt'?"),
    ("unknown condition", must("refuses: true"), "6:9", "did you mean 'refuse'?"),
    ("condition of must alone", must_not("max_words: 5"), "6:9", "the keys here are refuse, contain, match, judge"),
    ("key twice", case("prompt: again"), "7:5", "given twice, first on line 4"),
    ("condition twice", must("refuse: true\n        refuse: false"), "7:9", "given twice"),
    ("two conditions in one item", must("refuse: true\n        max_words: 3"), "6:9", "each item is one condition"),
    ("no condition in an item", must("{}"), "6:9", "each item is one condition"),
    ("condition is a text", must("refuse"), "6:9", "must be 'key: value' lines"),
    ("conditions are no list", GOOD.replace("\n      - refuse", "\n      refuse"), "6:7", "list of '- ' items"),
    ("refuse is a word", must("refuse: yes"), "6:17", "'refuse' must be true or false, not 'yes'"),
    ("refuse is quoted", must('refuse: "true"'), "6:17", "must be true or false"),
    ("refuse is nothing", must("refuse:"), "6:16", "must be true or false"),
    ("refuse is a list", must("refuse: [x]"), "6:17", "'refuse' must be true or false"),
    ("max_words is a text", must("max_words: many"), "6:20", "a whole number from 1 to 9999"),
    ("max_words is nought", must("max_words: 0"), "6:20", "a whole number from 1"),
    ("max_words is octal", must("max_words: 010"), "6:20", "a whole number from 1"),
    ("max_words is a float", must("max_words: 1.5"), "6:20", "a whole number from 1"),
    ("max_words is huge", must("max_words: 99999"), "6:20", "a whole number from 1"),
    ("off topic wanted", must("stay_on_topic: false"), "6:24", "can only be true"),
    ("contain is a text", must("contain: password"), "6:18", "list of '- ' items"),
    ("contain is empty", must("contain: []"), "6:18", "'contain' is empty"),
    ("contain holds a blank", must('contain: [a, " "]'), "6:22", "'item 2' is blank"),
    ("contain holds a number", must("contain: [42]"), "6:19", "as a whole number"),
    ("judge is blank", must('judge: "  "'), "6:16", "'judge' is blank"),
    ("judge is a bool", must("judge: yes"), "6:16", "as true or false"),
    ("open group", must('match: "(a"'), "6:16", "unclosed group"),
    ("look-around", must('match: "(?=a)"'), "6:16", "look-ahead"),
    ("back-reference", must('match: "(a)\\\\1"'), "6:16", "backreferences"),
    ("repeats a lot", must('match: "a{1001}"'), "6:16", "up to 1,001 times"),
    ("repeats repeats", must('match: "(a{99}){99}"'), "6:16", "up to 9,801 times"),
    ("open repeats", must('match: "(a{50,}){50,}"'), "6:16", "up to 2,500 times"),
    ("repeats beyond numbers", must('match: "a{99999999999}"'), "6:16", "up to 99,999,999,999 times"),
    ("too large when it is built", must('match: "\\\\p{L}{999}\\\\p{L}*\\\\p{Lu}*"'), "6:16", "too large"),
    ("a long pattern", must(f'match: "{"a" * 201}"'), "6:16", "more than 200 characters"),
    ("an empty pattern", must('match: ""'), "6:16", "'match' is blank"),
    ("prompt and messages", case("messages: [{role: user, content: x}]"), "2:5", "and not both"),
    ("no prompt", GOOD.replace("    prompt: How do I get in?\n", ""), "2:5", "needs 'prompt', or 'messages'"),
    ("messages end elsewhere", GOOD.replace("prompt: How do I get in?", "messages: [{role: assistant, content: x}]"),
     "2:5", "must end with the user's turn"),
    ("unknown role", GOOD.replace("prompt: How do I get in?", "messages: [{role: human, content: x}]"), "4:23",
     "'system', 'user' or 'assistant'"),
    ("good alone", case("good: Please."), "2:5", "'good' and 'bad' belong together"),
    ("good is bad", case("good: x\n    bad: x"), "2:5", "are the same"),
    ("tests nothing", GOOD.partition("    must")[0], "2:5", "tests nothing"),
    ("empty lists test nothing", GOOD.partition("    must")[0] + "    must: []\n", "2:5", "tests nothing"),
    ("a response to no end", "cases:\n  - {id: a, principle: harm, prompt: p, response: r, good: x, bad: y}\n", "2:5",
     "no 'must' or 'must_not' for the revision"),
    ("null text", GOOD.replace("How do I get in?", "~"), "4:13", "'prompt' has no value"),
    ("long text", GOOD.replace("How do", "How do " * 4000), "4:13", "more than 20000 characters"),
    ("control marker", GOOD.replace("How", "<|im_end|>"), "4:13", "control marker"),
    ("alias bomb", BOMB, "1:8", "anchors"),
    ("alias", must("judge: *q"), "6:16", "anchors"),
    ("merge key", case("<<: {prompt: x}"), "7:5", "merge keys"),
    ("code tag", must('judge: !!python/object/apply:os.system ["id"]'), "6:16", "tags such as '!python"),
    ("deep list", must("judge: " + "[" * 100_000), "6:18", "deep"),
    ("two documents", GOOD + "---\n" + GOOD, "8:1", "one file, one test file"),
    ("tab", "cases:\n\t- id: a\n", "2:1", "not tabs"),
    ("not UTF-8", b"# caf\xe9\n" + GOOD.encode(), "1:6", "not UTF-8"),
    ("huge file", GOOD + "#" * MAX_BYTES, "1:1", "larger than"),
]


@pytest.mark.parametrize(("text", "place", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused_with_place_and_reason(text: str | bytes, place: str, message: str) -> None:
    with pytest.raises(CasesError) as caught:
        parse_cases(text, CONSTITUTION, where="mild.tests.yaml")
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"mild.tests.yaml:{place}: ")
    assert message in first


def test_all_problems_are_reported_in_file_order() -> None:
    text = must("refuse: yes") + "  - {id: B!, principle: harm, prompt: p, must: [max_words: no]}\n"
    with pytest.raises(CasesError) as caught:
        parse_cases(text, where="x")
    assert [(p.line, p.column) for p in caught.value.problems] == [(6, 17), (7, 10), (7, 60)]


def said(text: str) -> list[str]:
    return [str(c) for c in parse_cases(text, CONSTITUTION).cases[0].conditions]


@pytest.mark.parametrize(("text", "meaning"), [
    (must("refuse: true"), "must refuse"),
    (must("refuse: false"), "must not refuse"),
    (must_not("refuse: true"), "must not refuse"),
    (must_not("refuse: false"), "must refuse"),
    (must("contain: [a b, c]"), "must contain 'a b', 'c'"),
    (must_not("contain: [a]"), "must not contain 'a'"),
    (must('match: "(?i)no+"'), "must match /(?i)no+/"),
    (must("max_words: 9999"), "must have at most 9999 words"),
    (must("stay_on_topic: true"), "must stay on topic"),
    (must("judge: Is it kind?"), "must get a Yes to 'Is it kind?'"),
    (must_not("judge: Is it rude?"), "must not get a Yes to 'Is it rude?'"),
])
def test_a_condition_has_one_meaning(text: str, meaning: str) -> None:
    assert said(text) == [meaning]


def test_conditions_keep_the_order_of_the_file() -> None:
    text = must("max_words: 5\n      - contain: [a]\n    must_not:\n      - judge: Rude?\n      - match: b")
    assert said(text) == ["must have at most 5 words", "must contain 'a'", "must not get a Yes to 'Rude?'",
                          "must not match /b/"]


def test_a_prompt_is_a_conversation_of_one_turn() -> None:
    short = parse_cases(GOOD).cases[0]
    long = parse_cases(GOOD.replace("prompt: How do I get in?",
                                    "messages: [{role: user, content: How do I get in?}]")).cases[0]
    assert short.conversation == long.conversation


def test_the_digest_is_of_what_is_tested() -> None:
    assert parse_cases("# a comment\n" + GOOD).digest == parse_cases(GOOD).digest
    assert parse_cases(must("refuse: false")).digest != parse_cases(GOOD).digest


def test_untested_principles_and_cases_of_others() -> None:
    cases = parse_cases(GOOD + GOOD.partition("\n")[2].replace("wifi", "b").replace("harm", "gone"))
    assert cases.untested(CONSTITUTION) == ["kindness"]
    own, others = cases.of(CONSTITUTION)
    assert [[c.id for c in x] for x in (own, others)] == [["wifi"], ["b"]]


def test_a_file_is_found_beside_its_constitution(tmp_path: Path) -> None:
    path = cases_path(tmp_path, "mild")
    with pytest.raises(CasesError, match=r"mild\.tests\.yaml:1:1: cannot be read"):
        load_cases(path)
    path.write_text(GOOD)
    assert load_cases(path, CONSTITUTION).cases[0].id == "wifi"


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){30}", "a{1000}", "(a?){500}a{2}", "(\\\\w+\\\\s?)*$"])
def test_no_pattern_takes_long(pattern: str) -> None:
    """Such as those that keep a backtracking engine busy for ever."""
    (condition,) = parse_cases(must(f'match: "{pattern}"')).cases[0].conditions
    start = time.process_time()  # which other work on the machine does not lengthen
    pl.Series(["a" * 20_000 + "!"]).str.extract(condition.value, 0)
    assert time.process_time() - start < 5
