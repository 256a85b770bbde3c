"""Coverage of a parent: planted faults are named and nothing else, in Markdown, YAML, and by the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.constitution.coverage import as_dict, coverage, sentences
from cai_assets.constitution.file_form import as_yaml
from cai_assets.constitution.importing.importer import import_constitution
from cai_assets.constitution.load import parse
from cai_assets.constitution.model import Constitution
from cai_assets.export.dataset import DataExport
from cai_assets.export.dataset_card import _coverage
from cai_assets.store.layout import Layout
from cai_assets.versions.snapshots import Snapshots

CLAUSES = {
    "1.1": "The librarian says what is not known.", "1.2": "Claims name their source. A guess is called a guess.",
    "1.3": "Promises to readers are kept.", "2.1": "Name the nearest exit when somebody asks for the way.",
    "2.2": "Refuse to explain how a lock is picked.", "2.3": "Warnings of storms come before everything else.",
    "2.4": "Speak the language of the reader."}
ORPHAN, FAR = "Paint the shelves green.", "Never break your word."


def markdown(clauses: dict[str, str], extra: str = "") -> str:
    articles: dict[str, str] = {}
    for number, text in clauses.items():
        head = number.split(".")[0]
        articles[head] = articles.get(head, f"\n## {head}. Article {head}\n") + f"\n### {number}\n\n{text}\n"
    return f"# Library\n{''.join(articles.values())}{extra}"


def read(clauses: dict[str, str], name: str = "child", extra: str = "") -> Constitution:
    return import_constitution(markdown(clauses, extra), where="x.md", name=name).constitution


PARENT = read(CLAUSES, "parent")


def found(child: Constitution) -> list[tuple[str, str]]:
    return [(f.kind, f.clause) for f in coverage(PARENT, child).findings]


def renamed(old: str, new: str) -> dict[str, str]:
    return {new if k == old else k: v for k, v in CLAUSES.items()}


PLANTED = {
    "nothing": (CLAUSES, []),
    "another order": (dict(reversed(CLAUSES.items())), []),
    "case and marks": (CLAUSES | {"2.4": "speak the *language* of the reader"}, []),
    "missing": ({k: v for k, v in CLAUSES.items() if k != "2.3"}, [("missing", "2.3")]),
    "a sentence is missing": (
        CLAUSES | {"1.2": "Claims name their source."}, [("missing", "1.2"), ("reworded", "1.2")]),
    "orphan": (CLAUSES | {"2.5": ORPHAN}, [("orphan", "2.5")]),
    "duplicate": (CLAUSES | {"3.1": CLAUSES["2.2"]}, [("duplicate", "3.1")]),
    "duplicate before the first": ({"0.1": CLAUSES["2.2"]} | CLAUSES, [("duplicate", "0.1")]),
    "near duplicate": (CLAUSES | {"3.1": "Refuse to explain how any lock is picked."}, [("duplicate", "3.1")]),
    "duplicated orphan": (CLAUSES | {"3.1": ORPHAN, "3.2": ORPHAN}, [("orphan", "3.1"), ("duplicate", "3.2")]),
    "renumbered": (renamed("2.4", "2.9"), [("renumbered", "2.9")]),
    "swapped": (
        CLAUSES | {"2.3": CLAUSES["2.4"], "2.4": CLAUSES["2.3"]}, [("renumbered", "2.3"), ("renumbered", "2.4")]),
    "reworded": (CLAUSES | {"1.3": "A promise that was made to readers is kept."}, [("reworded", "1.3")]),
    "in quite other words": (CLAUSES | {"1.3": FAR}, [("reworded", "1.3")]),
    "reworded and renumbered": (
        {k: v for k, v in CLAUSES.items() if k != "1.3"} | {"3.1": "Promises that were made to readers are kept."},
        [("reworded", "3.1"), ("renumbered", "3.1")]),
    "split": ({k: v for k, v in CLAUSES.items() if k != "1.2"}
              | {"1.2": "Claims name their source.", "1.4": "A guess is called a guess."}, []),
    "all of them": (
        {k: v for k, v in CLAUSES.items() if k not in {"2.3", "2.4"}}
        | {"1.3": "A promise that was made to readers is kept.", "2.9": CLAUSES["2.4"], "3.1": ORPHAN,
           "3.2": CLAUSES["2.2"]},
        [("missing", "2.3"), ("reworded", "1.3"), ("renumbered", "2.9"), ("orphan", "3.1"), ("duplicate", "3.2")]),
}


@pytest.mark.parametrize(("child", "expected"), PLANTED.values(), ids=PLANTED)
def test_planted_faults_are_named_and_nothing_else(child: dict[str, str], expected: list[tuple[str, str]]) -> None:
    assert sorted(found(read(child))) == sorted(expected)


WORDS = ("harbor", "window", "citizen", "budget", "forest", "teacher", "bridge", "garden", "letter", "market", "doctor",
         "signal", "engine", "village", "winter", "copper", "silver", "hammer", "pencil", "kitchen", "station")
clause = st.lists(st.sampled_from(WORDS), min_size=7, max_size=7, unique=True).map(lambda w: f"Consider {' '.join(w)}.")


@settings(max_examples=30, deadline=None)
@given(st.lists(clause, min_size=6, max_size=6, unique_by=lambda t: frozenset(t.split())), st.randoms())
def test_planted_faults_of_any_document_are_named(texts: list[str], random: object) -> None:
    for i, a in enumerate(texts):  # clauses that differ in most of their words, as clauses do
        for b in texts[:i]:
            if len(set(a.split()) & set(b.split())) > 3:
                return
    numbers = [f"1.{i}" for i in range(1, 7)]
    parent = read(dict(zip(numbers, texts, strict=True)), "parent")
    places = list(numbers)
    random.shuffle(places)  # type: ignore[attr-defined]
    gone, moved, worded, copied = places[:4]
    child = dict(zip(numbers, texts, strict=True))
    child |= {"2.1": child[copied], "2.2": child.pop(moved), worded: child[worded].replace("Consider", "Always weigh")}
    del child[gone]
    got = {(f.kind, f.clause) for f in coverage(parent, read(child)).findings}
    assert got == {("missing", gone), ("duplicate", "2.1"), ("renumbered", "2.2"), ("reworded", worded)}


YAML = """version: "v1"
parent: parent
articles:
  - id: values
    clauses:
      - {id: candor, text: Be open about the limits of knowledge., basis: ["1.1", "1.2"]}
      - {id: word, text: Whoever gives their word keeps it., basis: ["Promises to readers are kept."]}
      - {id: safety, text: Help people to be safe., basis: ["2.1", "2.2"]}
      - {id: storms, text: Weather., basis: ["2.3"], status: deferred}
      - {id: pride, text: Be proud of the library., status: new}
      - {id: speech, text: Talk so that everybody follows., basis: ["2.4", "9.9"]}
      - {id: ghosts, text: Believe in ghosts., basis: ["8.1"]}
      - {id: moods, text: Cheer people up.}
"""


def test_a_document_in_other_words_covers_by_its_basis() -> None:
    child = parse(YAML, name="child")
    result = coverage(PARENT, child)
    assert [(s.clause, s.state, s.clauses) for s in result.sentences] == [
        ("1.1", "mapped", ("candor",)), ("1.2", "mapped", ("candor",)), ("1.2", "mapped", ("candor",)),
        ("1.3", "mapped", ("word",)), ("2.1", "mapped", ("safety",)), ("2.2", "mapped", ("safety",)),
        ("2.3", "deferred", ("storms",)), ("2.4", "mapped", ("speech",))]
    assert [(f.kind, f.clause) for f in result.findings] == [
        ("no such basis", "speech"), ("orphan", "ghosts"), ("orphan", "moods")]
    assert "'8.1'" in result.findings[1].message
    assert str(result).startswith("8 sentences of parent v1: 7 mapped, 1 deferred, 0 missing in child v1")


def test_a_renumbered_clause_with_the_same_id_is_known_by_it() -> None:
    text = as_yaml(read(CLAUSES)).replace("- id: '2.4'\n", "- id: '2.4'\n    number: '2.9'\n")
    assert found(parse(text, name="child")) == [("renumbered", "2.9")]


def test_a_constitution_without_clauses_is_compared_by_its_principles() -> None:
    c = parse('version: "v1"\nprinciples:\n  - {id: a, preference: Which is kinder?}\n  - {id: b, preference: Which '
              'is true?}\n', name="flat")
    fewer = c.model_copy(update={"principles": c.principles[:1]})
    assert not coverage(c, c).findings
    assert [(f.kind, f.clause) for f in coverage(c, fewer).findings] == [("missing", "b")]


def test_sentences_end_where_they_end() -> None:
    text = 'Ask a doctor, e.g. Dr. Smith. "Why?" Say so (see art. 3).\nName:\n- a source\n- a date. And 2 more! Ok'
    assert list(sentences(text)) == ["Ask a doctor, e.g. Dr. Smith.", '"Why?"', "Say so (see art. 3).", "Name:",
                                     "a source", "a date.", "And 2 more!", "Ok"]


def test_the_command_tells_and_exits_for_ci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, clauses in (("parent.md", CLAUSES), ("same.md", CLAUSES), ("worded.md", CLAUSES | {"1.3": FAR}),
                          ("orphan.md", CLAUSES | {"2.5": ORPHAN})):
        Path(name).write_text(markdown(clauses), encoding="utf-8")
    Path("constitutions").mkdir()
    Path("constitutions/child.yaml").write_text(YAML, encoding="utf-8")

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["coverage", *words])
        return result.exit_code, result.output

    assert run("parent.md", "same.md")[0] == 0
    assert [run("parent.md", "worded.md")[0], run("parent.md", "worded.md", "--strict")[0]] == [0, 1]
    code, output = run("parent.md", "orphan.md")
    assert code == 1
    assert "orphan: 2.5: rests on nothing in the parent: Paint the shelves green." in " ".join(output.split())
    code, output = run("parent.md", "child", "--json")
    told = json.loads(output)
    assert code == 1
    assert told == json.loads(json.dumps(as_dict(coverage(PARENT, parse(YAML, name="child")))))
    assert told["counts"] == {"mapped": 7, "deferred": 1, "missing": 0}
    shown = CliRunner().invoke(app, ["diff", "constitutions/child.yaml", "child"])
    assert shown.exit_code == 0
    code, output = run("parent.md", "nothing.md")
    assert code == 2


def test_the_card_of_a_data_set_shows_the_coverage(tmp_path: Path) -> None:
    snapshots, child = Snapshots(Layout(tmp_path)), parse(YAML, name="child")
    key = snapshots.register(PARENT)
    for name in ("parent", key, "constitutions/parent.yaml"):
        assert snapshots.newest_of(name) == PARENT
    assert snapshots.newest_of("par") is None
    text = _coverage(DataExport("v", child, None, PARENT))
    assert "8 sentences of parent v1: 7 mapped, 1 deferred, 0 missing" in text
    assert "ghosts" in text
    assert "is not registered" in _coverage(DataExport("v", child, None))
    assert not _coverage(DataExport("v", PARENT, None))


CHARTER = """# Harbor Charter

## Article 4: Preventing harm

### 4.1 Duty of care

The assistant protects people, e.g. children, the elderly, etc. It does so under Art. 3 of the Act (cf. Sec. 5.2).

### 4.2 Emergencies

In an emergency the assistant

1. names the emergency number;
2. stays with the person until help arrives:
   - it keeps calm,
   - it asks one question at a time.

### 4.2.a Minors

For minors, vs. adults, the assistant involves a trusted adult.[^1]

[^1]: A parent, or
    a teacher.

## Article 5: Honesty

- **5.1** The assistant does not lie. It says no. Dr. Smith's rule applies: no. 1 is the truth.
- **5.2** It quotes sources by name, U.S. law included.
- **5.3(a)** It corrects its own errors at once.
"""
PLANTED = {
    ("orphan", "5.4"): ("", "- **5.4** The assistant praises the harbor master every day."),
    ("duplicate", "5.4"): ("", "- **5.4** It corrects its own errors at once."),
    ("renumbered", "4.2.b"): ("### 4.2.a", "### 4.2.b"),
    ("renumbered", "5.3(b)"): ("5.3(a)", "5.3(b)"),
    ("reworded", "4.2.a"): ("involves a trusted adult", "asks a trusted adult to help"),
    ("missing", "5.2"): ("- **5.2** It quotes sources by name, U.S. law included.\n", ""),
}


def charter(text: str, name: str) -> Constitution:
    return import_constitution(text.encode(), where="charter.md", name=name, fill="preference").constitution


@pytest.mark.parametrize("planted", PLANTED)
def test_of_a_charter_as_they_are_published_what_is_planted_is_named_and_nothing_else(planted: tuple[str, str]) -> None:
    old, new = PLANTED[planted]
    edited = CHARTER.replace(old, new) if old else f"{CHARTER}{new}\n"
    found = coverage(charter(CHARTER, "parent"), charter(edited, "child"))
    assert [(f.kind, f.clause) for f in found.findings] == [planted]


def test_a_published_charter_covers_itself_and_says_what_it_left_out() -> None:
    made = import_constitution(CHARTER.encode(), where="charter.md", name="parent", fill="preference")
    assert [(c.id, c.label) for c in made.constitution.clauses][2:] == [
        ("4.2.a", "4.2.a"), ("5.1", "5.1"), ("5.2", "5.2"), ("5.3-a", "5.3(a)")]
    assert made.constitution.clauses[2].text.endswith("involves a trusted adult.")
    assert "is a footnote: 'A parent, or'" in [out.why for out in made.left_out]
    itself = coverage(made.constitution, charter(CHARTER, "child"))
    assert (itself.count("missing"), itself.findings) == (0, ())
    said = [s.text for s in itself.sentences]
    assert "It does so under Art. 3 of the Act (cf. Sec. 5.2)." in said
    assert said[-5:-2] == ["The assistant does not lie.", "It says no.",
                           "Dr. Smith's rule applies: no. 1 is the truth."]
