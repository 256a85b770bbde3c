"""``cai import``: published forms become constitution files, nothing is lost in silence, and export brings it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.constitution.file_form import as_json, as_yaml
from cai_assets.constitution.importing.document import ImportFailed
from cai_assets.constitution.importing.importer import Imported, import_constitution
from cai_assets.constitution.lint import lint
from cai_assets.constitution.load import ConstitutionError, load_file, parse
from cai_assets.constitution.templates import TEMPLATES

HERE = Path(__file__).parents[2] / "constitutions"


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


HUGGING_FACE = json.dumps({
    "constitutions": [{"critic": f"What is wrong with point {i}?", "revision": f"Mend point {i}."} for i in range(16)],
    "system_chats": [turns("q", "a", "what is wrong?", "this", "mend it", "mended"), turns("q", "a")]})
BAI = json.dumps({f"harmful{i}": {
    "prompt": [f"\n\nCritiqueRequest: Find fault number {i}.\n\nCritique:"],
    "edit_request": f"\n\nRevisionRequest: Remove fault number {i}.\n\nRevision:"} for i in range(16)})
MADISON = json.dumps([f"\nPlease choose the response that is better in way {i}. Options:" for i in range(16)])
TRAITS = json.dumps([{"trait": "I like a joke.", "questions": ["Why?", "How?"]}, {"trait": "I never mock anyone."}])
LANGCHAIN = json.dumps({"harm": {"name": "harm", "critique_request": "Is it harmful?", "revision_request": "Mend it."}})
GROUPS = json.dumps({"sl_principles": [{"id": 1, "critiqueRequest": "Find it.", "revisionRequest": "Mend it."}],
                     "rl_principles": ["Choose the answer that is kind.", "Choose the answer that is true."]})
RULES = json.dumps({
    "R1_refuses": {"description": "It refuses what is harmful.", "weight": 0.3, "examples": [{"user": "x"}]},
    "R2_kind": {"description": "It does not lecture anybody.", "weight": 0.1}})
SENTENCES = """# how people publish: a list of sentences
name: House rules
principles:
  - Choose the answer that respects privacy.
  - Choose the answer that is least likely to offend.
"""
SNAKE = """version: "1.0"
principles:
  - id: privacy_protection
    title: Privacy
    description: Do not reveal private facts.
    critique_request: Does the answer reveal private facts?
    revision_request: Remove private facts.
"""
MARKDOWN = "# Our constitution\n- Be kind.\n- Be honest.\n"
SECTIONS = """---
date: today
---
# Our constitution

It holds for all.

## Introduction

Some words.

## 1. Golden Rule

Do to others
what you *want*.

## Honesty

We hold that:

1. **No lies.** Never say
   what is false.
2. Say what you do not know.
   - above all in medicine

| a | b |
|---|---|
| 1 | 2 |
"""
TABLE = """# Rules

| Id | Principle | Critique | Votes |
|---|---|---|---|
| kind | Be *kind* to all. | Is it unkind? | 3 |
| true | Be honest. | | 4 |

| Year | Votes |
|---|---|
| 2024 | 7 |
"""
COMMA_TOO_MANY = '{"principles": [{"description": "Put safety first."}, {"description": "Be open about limits."},]}'

# what, the file, its content, principles, of them with (critique, preference), left out
FORMS = [
    ("Hugging Face", "hf.json", HUGGING_FACE, 16, (16, 0), 1),
    ("a bare list of records", "hh.json", '[{"critic": "Find it.", "revision": "Mend it."}]', 1, (1, 0), 0),
    ("Bai et al., NeMo", "bai.json", BAI, 16, (16, 0), 0),
    ("Bai et al., preferences", "rl.json", MADISON, 16, (0, 16), 0),
    ("OpenCharacterTraining", "humor.txt", TRAITS, 2, (0, 2), 0),
    ("JSON Lines", "humor.jsonl", '{"trait": "I am kind."}\n{"trait": "I am true."}\n', 2, (0, 2), 0),
    ("LangChain", "chain.json", LANGCHAIN, 1, (1, 0), 0),
    ("two groups", "cai.json", GROUPS, 3, (1, 2), 0),
    ("rules by name", "rbr.json", RULES, 2, (0, 2), 0),
    ("sentences in YAML", "house.yaml", SENTENCES, 2, (0, 2), 0),
    ("sentences in JSON", "house.json", '["Be kind to all.", "Be honest."]', 2, (0, 2), 0),
    ("sentences by group", "two.json", '{"public": ["Be kind to all."], "standard": ["Be honest."]}', 2, (0, 2), 0),
    ("a sentence a line", "house.txt", "Be kind to all.\nBe honest\n\nBe kind to all.\n", 2, (0, 2), 1),
    ("wrapped paragraphs", "wrapped.txt", "Be kind to\nall people.\n\nBe honest\nalways.\n", 2, (0, 2), 0),
    ("a numbered list", "sys.txt", "You are a judge.\n1. Choose the kinder answer.\n2. Be honest.\n", 2, (0, 2), 1),
    ("another bullet", "dots.txt", "• Be kind.\n• Be honest.\n", 2, (0, 2), 0),
    ("CSV", "ccai.csv", 'principle,votes\n"Be fair, and kind.",12\nBe honest.,3\n', 2, (0, 2), 0),
    ("other keys", "k07.yaml", SNAKE, 1, (1, 1), 0),
    ("a Markdown list", "k08.md", MARKDOWN, 2, (0, 2), 0),
    ("a Markdown document", "doc.md", SECTIONS, 3, (0, 3), 4),
    ("a Markdown table", "card.md", TABLE, 2, (1, 2), 1),
    ("JSON with a comma too many", "comma.json", COMMA_TOO_MANY, 2, (0, 2), 0),
    ("byte order mark and CRLF", "bom.txt", b"\xef\xbb\xbfBe kind.\r\nBe honest.\r\n", 2, (0, 2), 0),
    ("another language", "zh.json", json.dumps(["请选择更诚实的回答。", "请选择更友善的回答。"]), 2, (0, 2), 0),
]
by_form = pytest.mark.parametrize(("file", "text", "n", "uses", "left_out"), [f[1:] for f in FORMS],
                                  ids=[f[0] for f in FORMS])


def imported(text: str | bytes, file: str = "a.json", **options: Any) -> Imported:
    return import_constitution(text, where=file, name="house", **options)


@by_form
def test_a_published_form_becomes_principles_and_the_counts_add_up(
    file: str, text: str | bytes, n: int, uses: tuple[int, int], left_out: int
) -> None:
    made = imported(text, file)
    c = made.constitution
    assert len(c.principles) == n
    assert (len(c.taking_part("critique")), len(c.taking_part("preference"))) == uses
    assert len(made.left_out) == left_out
    assert made.read == n + left_out + len(c.few_shots.revision)
    for where, why in made.left_out:
        assert f"left out: {where}: {why}" in made.lines


@by_form
def test_import_export_import_is_the_identity(
    file: str, text: str | bytes, n: int, uses: tuple[int, int], left_out: int
) -> None:
    c = imported(text, file).constitution
    assert parse(as_yaml(c, ["a comment"]), name="house") == c
    for again, name in ((as_yaml(c), "a.yaml"), (as_json(c), "a.json"), (c.model_dump_json(), "snapshot.json")):
        made = imported(again, name)
        assert made.constitution == c
        assert made.left_out == ()
    assert [f for f in lint(c) if f.level == "error"] == []


@pytest.mark.parametrize("file", sorted(p for p in HERE.glob("*.yaml") if "tests" not in p.name), ids=lambda p: p.stem)
def test_our_own_constitutions_go_through_every_form_unchanged(file: Path) -> None:
    c = load_file(file)
    for text, name in ((as_yaml(c), "a.yaml"), (as_json(c), "a.json"), (c.model_dump_json(indent=1), "a.json")):
        assert import_constitution(text, where=name, name=c.name).constitution == c


def test_wrappers_of_the_paper_are_cut_off_and_named() -> None:
    made = imported(BAI)
    first = made.constitution.principles[0]
    assert (first.id, first.critique, first.revision) == ("harmful0", "Find fault number 0.", "Remove fault number 0.")
    assert "cut off: 'CritiqueRequest:' (16), 'Critique:' (16), 'RevisionRequest:' (16), 'Revision:' (16)" in made.lines
    choice = imported(MADISON).constitution.principles[0]
    assert choice.preference == "Please choose the response that is better in way 0."


def test_what_is_filled_names_its_template_and_a_choice_needs_none() -> None:
    filled = imported('["Be kind to all.", "Choose the honest answer."]')
    kind, choice = filled.constitution.principles
    assert kind.preference == "Which answer follows this principle better? Be kind to all."
    assert choice.preference == "Choose the honest answer."
    assert any(line.startswith("filled: preference of 1 from the template 'preference'") for line in filled.lines)


@pytest.mark.parametrize(("fill", "has"), [
    ("preference", (False, True)), ("critique", (True, False)), ("all", (True, True))])
def test_the_requests_of_a_sentence_can_be_chosen(fill: Any, has: tuple[bool, bool]) -> None:
    (p,) = imported('["Be kind to all."]', fill=fill).constitution.principles
    assert (p.critique is not None, p.preference is not None) == has
    assert (p.critique is None) == (p.revision is None)
    with pytest.raises(ImportFailed, match="none is filled"):
        imported('["Be kind to all."]', fill="none")


@pytest.mark.parametrize("key", ["critique", "revision"])
def test_half_of_a_critique_and_revision_gets_the_other_half_from_a_template(key: str) -> None:
    made = imported(json.dumps([{key: "Look for harm."}]))
    assert len(made.constitution.taking_part("critique")) == 1
    assert any("from the template" in line for line in made.lines)


def test_chats_become_examples() -> None:
    (shot,) = imported(HUGGING_FACE).constitution.few_shots.revision
    assert (shot.prompt, shot.critique_request, shot.revision) == ("q", "what is wrong?", "mended")


def test_headings_name_clauses_and_clauses_keep_their_words() -> None:
    c = imported(SECTIONS, "doc.md").constitution
    golden, lies, unknown = c.principles
    assert (golden.name, golden.source) == ("Golden Rule", "doc.md: line 12")
    assert golden.preference is not None
    assert golden.preference.endswith("Do to others what you want.")
    assert (lies.name, lies.tags) == ("No lies", ("honesty",))
    assert lies.preference is not None
    assert lies.preference.endswith("No lies. Never say what is false.")
    assert unknown.preference is not None
    assert unknown.preference.endswith("Say what you do not know.\n- above all in medicine.")
    assert c.description == "Our constitution It holds for all."


@pytest.mark.parametrize(("text", "why"), [
    ('["Be kind to all.", "Say <|im_end|> twice."]', "control marker"),
    ('["Be kind to all.", "be  KIND to all!"]', "says the same as 'be-kind-to-all'"),
    ('["Be kind to all.", 17]', "is no text"),
    ('["Be kind to all.", null]', "is empty"),
    ('["Be kind to all.", "short"]', "is no sentence"),
    ('["Be kind to all.", "Human: hi\\n\\nAssistant: hello"]', "transcript"),
    ('{"principles": ["Be kind to all."], "other": [1]}', "is not part of the principles"),
    ('{"principles": ["Be kind to all."], "few_shots": {"revision": [1]}}', "are no examples of this project"),
    (json.dumps(["Be kind to all.", "long " * 5000]), "more than 20,000 characters"),
    ('[{"text": "Be kind to all.", "weight": "heavy"}, "Be true."]', "should be a valid number"),
])
def test_what_cannot_be_a_principle_is_left_out_with_its_reason(text: str, why: str) -> None:
    assert any(why in x.why for x in imported(text).left_out)


@pytest.mark.parametrize(("file", "text", "message"), [
    ("a.json", '{"constitutions": [{"critic": "a', "a.json:1:31: not valid JSON"),
    ("a.json", "", "the file is empty"),
    ("a.json", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer"),
    ("a.json", '{"a": {"b": "one two three"}, "a": 1}', "is given twice"),
    ("a.json", "[" * 100_000, "not valid JSON"),
    ("a.json", '{"name": "x", "version": "1"}', "holds no principle that can be read"),
    ("a.yaml", "a: *b", "holds no principle"),
    ("a.txt", "Be kind.".encode("utf-16"), "not UTF-8"),
    ("a.csv", 'principle\n"open', "is not a table"),
    ("a.csv", "principle\nBe kind, and true.\n", "a.csv:2:1: has more cells than the table has columns"),
])
def test_what_cannot_be_read_is_one_line_with_the_place(file: str, text: str | bytes, message: str) -> None:
    with pytest.raises(ImportFailed) as caught:
        imported(text, file)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("file", "text"), [(f[1], f[2]) for f in FORMS], ids=[f[0] for f in FORMS])
def test_a_constitution_in_another_form_says_how_to_import_it(tmp_path: Path, file: str, text: str | bytes) -> None:
    path = tmp_path / file
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConstitutionError) as caught:
        load_file(path)
    (line,) = str(caught.value).splitlines()
    assert "this looks like " in line
    assert line.endswith(f"run: cai import {path} --out constitutions/NAME.yaml")


def test_a_mistake_in_our_own_form_keeps_its_line_and_column() -> None:
    with pytest.raises(ConstitutionError, match=":4:5: there is no key 'critque'"):
        parse('version: "v1"\nprinciples:\n  - id: a\n    critque: x\n    preference: Which is kinder?\n', name="a")


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_the_command_writes_a_file_that_lints_and_never_overwrites_one(tmp_path: Path) -> None:
    source, out = tmp_path / "list.json", tmp_path / "house.yaml"
    source.write_text('["Be kind to all.", "Be honest."]')
    text = run("import", str(source), "--out", str(out))
    assert "JSON, 2 entries = 2 principles + 0 left out" in text
    assert f"Next: cai lint {out}" in text
    assert out.read_text().startswith("# Imported from list.json by cai import:\n# JSON, 2 entries")
    assert "2 principles" in run("lint", str(out))
    before = out.read_text()
    assert "--force" in run("import", str(source), "--out", str(out), code=2)
    assert out.read_text() == before
    run("import", str(source), "--out", str(out), "--fill", "critique", "--force")
    assert load_file(out).principles[0].critique


def test_the_commands_wrong_inputs_are_one_line(tmp_path: Path) -> None:
    good, out = tmp_path / "a.json", str(tmp_path / "house.yaml")
    good.write_text('["Be kind to all."]')
    for arguments, words in (
        ((str(tmp_path / "none.json"), "--out", out), "cannot be read: No such file"),
        ((str(tmp_path), "--out", out), "cannot be read: Is a directory"),
        ((str(good), "--out", str(tmp_path / "house.json")), "name a file that ends in .yaml"),
        ((str(good), "--out", str(tmp_path / "My House.yaml")), "the file's name cannot be"),
        ((str(good), "--out", out, "--fill", "much"), "preference, critique, all, none"),
    ):
        assert words in run("import", *arguments, code=2)
    assert not list(tmp_path.glob("*.yaml"))


def test_a_constitution_is_exported_in_both_forms(tmp_path: Path) -> None:
    name = str(HERE / "red-team.yaml")
    text = run("export", "constitution", name, "--out", str(tmp_path / "r.json"))
    assert "3 of 9 principles have no 'critic'" in text
    run("export", "constitution", name, "--out", str(tmp_path / "r.yaml"))
    assert load_file(tmp_path / "r.yaml").principles == load_file(Path(name)).principles
    assert "--force" in run("export", "constitution", name, "--out", str(tmp_path / "r.yaml"), code=2)
    assert ".yaml or .json" in run("export", "constitution", name, "--out", str(tmp_path / "r.txt"), code=2)


def test_the_page_shows_every_template() -> None:
    page = (HERE.parent / "docs" / "import.md").read_text(encoding="utf-8")
    for name, text in TEMPLATES.items():
        assert f"| `{name}` | {text} |" in page
