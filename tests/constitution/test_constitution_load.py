"""The loader reads a file to one meaning or refuses it with the place and the reason."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest

from cai_assets.constitution.digest import digest
from cai_assets.constitution.load import MAX_BYTES, MAX_SHOWN, ConstitutionError, load_file, parse

GOOD = 'version: "v1"\nprinciples:\n  - id: harm\n    critique: Find harm.\n    revision: Remove harm.\n'


def version(text: str) -> str:
    return GOOD.replace('"v1"', text)


def critique(text: str) -> str:
    return GOOD.replace("Find harm.", text)


def also(line: str) -> str:
    return GOOD + line + "\n"


SHOT = "few_shots: {preference: [{prompt: p, a: x, b: y, request: r, choice: B}]}"
BOMB = GOOD + "x0: &x0 [a, a]\n" + "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 12))

# what, text, the place of the first problem, a part of its message
REFUSED = [
    ("version is a float", version("1.10"), "1:10", "as a number"),
    ("version is octal", version("010"), "1:10", "as a whole number"),
    ("version is a date", version("2024-01-01"), "1:10", "as a date"),
    ("version is no date", version("2024-13-45"), "1:10", "as a date"),
    ("version is a bool", version("NO"), "1:10", 'as true or false: put it in quotes, such as "no"'),
    ("version is base 60", version("12:30:00"), "1:10", "as a whole number"),
    ("version is not quoted", version("v1"), "1:10", "must be in quotes"),
    ("version is null", version("~"), "1:10", "no value"),
    ("version leads upwards", version('"../../x"'), "1:10", "use a-z, 0-9"),
    ("version is a path", version('"/etc/x"'), "1:10", "use a-z, 0-9"),
    ("version holds dots", version('"a...b"'), "1:10", 'for example "a-b"'),
    ("version holds a newline", version('"a\\nb"'), "1:10", "U+000A"),
    ("version ends in a newline", version('"v1\\n"'), "1:10", "U+000A"),
    ("version is empty", version('""'), "1:10", "use a-z, 0-9"),
    ("version is long", version(f'"{"x" * 300}"'), "1:10", "at most 63"),
    ("version makes a long key", version(f'"{"x" * 63}"'), "1:10", "shorten the version"),
    ("version has capitals", version('"V1"'), "1:10", 'for example "v1"'),
    ("version is not NFC", version('"ve\u0301"'), "1:10", "normal form NFC"),
    ("version holds bidi control", version('"v\u202e1"'), "1:10", "U+202E"),
    ("version is missing", GOOD.partition("\n")[2], "1:1", "'version' is missing"),
    ("key twice", version('"v1"\nversion: "v2"'), "2:1", "given twice, first on line 1"),
    ("id twice", also("  - id: harm\n    preference: Which?"), "6:9", "the id on line 3"),
    ("id twice but for case", also("  - id: HARM\n    preference: Which?"), "6:9", "the id on line 3"),
    ("id is a path", GOOD.replace("harm\n", '"../x"\n', 1), "3:9", "use a-z, 0-9"),
    ("id is a number", GOOD.replace("harm\n", "17\n", 1), "3:9", "as a whole number"),
    ("id is missing", GOOD.replace("id: harm\n    ", ""), "3:5", "'id' is missing"),
    ("unknown key", also("principels: []"), "6:1", "did you mean 'principles'?"),
    ("unknown key in a principle", GOOD.replace("critique", "critque"), "4:5", "did you mean 'critique'?"),
    ("unknown key, a number", also("    wieght: 2"), "6:5", "did you mean 'weight'?"),
    ("unknown key, none near", also("zzz: 1"), "6:1", "the keys here are version, description"),
    ("name in the file", also("name: harmless"), "6:1", "remove 'name'"),
    ("empty file", "", "1:1", "the file is empty"),
    ("only a comment", "# nothing\n", "1:1", "the file is empty"),
    ("null file", "~", "1:1", "at the top level"),
    ("list at the top", "- a\n- b\n", "1:1", "at the top level"),
    ("text at the top", "hello", "1:1", "at the top level"),
    ("no principles", 'version: "v1"\nprinciples: []\n', "2:13", "'principles' is empty"),
    ("principles is a mapping", 'version: "v1"\nprinciples: {id: a}\n', "2:13", "list of '- ' items"),
    ("principle is a text", also("  - just a text"), "6:5", "'item 2' must be 'key: value' lines"),
    ("too many principles", also("\n".join(f"  - {{id: p{i}, preference: x}}" for i in range(1000))), "3:3", "1000"),
    ("null text", critique("~"), "4:15", "'critique' has no value"),
    ("missing text", critique(""), "4:14", "'critique' has no value"),
    ("blank text", critique('"   "'), "4:15", "'critique' is blank"),
    ("bool text", critique("yes"), "4:15", "as true or false"),
    ("long text", critique("word " * 5000), "4:15", "more than 20000 characters"),
    ("critique alone", GOOD.partition("    revision")[0], "3:5", "belong together"),
    ("nothing to do", 'version: "v1"\nprinciples:\n  - id: a\n', "3:5", "'rubric', or 'check'"),
    ("alias bomb", BOMB, "6:1", "no key 'x0'"),
    ("self reference", also("x: &x [*x]"), "6:1", "no key 'x'"),
    ("alias", critique("&c Find.").replace("Remove harm.", "*c"), "4:15", "anchors"),
    ("undefined alias", critique("*nowhere"), "4:15", "anchors"),
    ("alias as key", also("*x : 1"), "6:1", "plain word"),
    ("merge key", also("    <<: {critique: x}"), "6:5", "merge keys"),
    ("deep flow list", also("x: " + "[" * 100_000), "6:10", "deep"),
    ("deep block list", "- " * 100_000, "1:15", "deep"),
    ("deep keys", "? " * 100_000, "1:3", "plain word"),
    ("list as key", also("[a]: b"), "6:1", "plain word"),
    ("too many values", also("description: x\n" * 30_000), "7:1", "given twice"),
    ("code tag", critique('!!python/object/apply:os.system ["id"]'), "4:15", "tags such as '!python"),
    ("str tag", critique("!!str x"), "4:15", "tags"),
    ("bare tag", critique("! x"), "4:15", "tags"),
    ("two documents", GOOD + "---\n" + GOOD, "7:1", "second document"),
    ("NaN weight", also("    weight: .nan"), "6:13", "plain decimal number"),
    ("infinite weight", also("    weight: .inf"), "6:13", "plain decimal number"),
    ("overflowing weight", also("    weight: 1e999"), "6:13", "plain decimal number"),
    ("negative weight", also("    weight: -1"), "6:13", "plain decimal number"),
    ("no weight", also("    weight: 0"), "6:13", "plain decimal number"),
    ("octal weight", also("    weight: 010"), "6:13", "plain decimal number"),
    ("quoted weight", also('    weight: "2"'), "6:13", "plain decimal number"),
    ("weight is a list", also("    weight: [x]"), "6:13", "must be a number"),
    ("tags is a text", also("    tags: do"), "6:11", "list of '- ' items"),
    ("tag is a bool", also("    tags: [do, no]"), "6:16", "as true or false"),
    ("display name with bidi control", also('    name: "a\u202eb"'), "6:11", "U+202E"),
    ("display name not NFC", also('    name: "e\u0301"'), "6:11", "normal form NFC"),
    ("ChatML marker", critique('"<|im_end|><|im_start|>system"'), "4:15", "'<|im_end|>' is a control marker"),
    ("Llama markers", critique('"so [INST] <<SYS>>"'), "4:15", "control marker"),
    ("sentence marker", critique("say <s> please"), "4:15", "control marker"),
    ("marker in an example", also(SHOT.replace("prompt: p", "prompt: </s>")), "6:35", "control marker"),
    ("choice is C", also(SHOT.replace("choice: B", "choice: C")), "6:70", "'A' or 'B'"),
    ("escaped control character", critique('"a\\u0007"'), "4:15", "U+0007"),
    ("raw NUL", also("# \0"), "6:3", "U+0000"),
    ("lone surrogate", also("# \ud800"), "6:3", "U+D800"),
    ("tab", 'version: "v1"\nprinciples:\n\t- id: a\n', "3:1", "not tabs"),
    ("text with a colon", critique("Look: at this"), "4:19", "needs quotes"),
    ("open quote", critique('"Look'), "6:1", "not valid YAML"),
    ("Latin-1", "# caf\xe9\n".encode("latin-1") + GOOD.encode(), "1:6", "byte 0xE9 at offset 5 is not UTF-8"),
    ("UTF-16", GOOD.encode("utf-16"), "1:1", "not UTF-8"),
    ("huge file", GOOD + "#" * MAX_BYTES, "1:1", "larger than"),
]
ACCEPTED = [
    ("smallest file", GOOD),
    ("bytes", GOOD.encode()),
    ("CRLF", GOOD.replace("\n", "\r\n")),
    ("byte order mark", b"\xef\xbb\xbf" + GOOD.encode()),
    ("single quotes", version("'v1'")),
    ("YAML directive", "%YAML 1.2\n---\n" + GOOD),
    ("folded text", critique(">-\n      Find\n      harm.")),
    ("flow style", '{version: "v1", principles: [{id: harm, critique: Find harm., revision: Remove harm.}]}'),
    ("weight of one", also("    weight: 1")),
    ("display name", also("    name: \u00c9thique")),
]


@pytest.mark.parametrize(("text", "place", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused_with_place_and_reason(text: str | bytes, place: str, message: str) -> None:
    with pytest.raises(ConstitutionError) as caught:
        parse(text, name="a" * 40, where="c.yaml")
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"c.yaml:{place}: ")
    assert message in first


@pytest.mark.parametrize("text", [a[1] for a in ACCEPTED], ids=[a[0] for a in ACCEPTED])
def test_accepted_with_one_meaning(text: str | bytes) -> None:
    assert digest(parse(text, name="c")) == digest(parse(GOOD, name="c"))


@pytest.mark.parametrize("text", ["Is {response} bad? {0.__class__}", "{{ x }}", "%s $HOME `id`", "a\u0301 \u202b"])
def test_texts_are_literal(text: str) -> None:
    assert parse(critique(f'"{text}"'), name="c").principles[0].critique == text


def test_all_problems_are_reported_in_file_order() -> None:
    text = (version("1.0") + "  - id: B!\n    critque: x\nfew_shots:\n  revision: [{prompt: p}]\n"
            "  preference: [{prompt: p, a: x, b: y, request: r, choice: C}]\n")
    with pytest.raises(ConstitutionError) as caught:
        parse(text, name="c", where="c.yaml")
    problems = caught.value.problems
    assert [(p.line, p.column) for p in problems] == [(1, 10), (6, 9), (7, 5), *[(9, 14)] * 5, (10, 60)]
    assert len({p.message for p in problems}) == 9


def test_many_problems_are_cut_short_in_print_only() -> None:
    with pytest.raises(ConstitutionError) as caught:
        parse(also("x: 1\n" * 100), name="c")
    assert len(caught.value.problems) == 100
    assert len(str(caught.value).splitlines()) == MAX_SHOWN + 1
    assert str(copy.copy(caught.value)) == str(caught.value)  # also how process pools carry an error


@pytest.mark.parametrize("name", ["My File", "Harm", "a.b", "", "-a", "e\u0301"])
def test_the_file_name_must_be_a_slug(name: str) -> None:
    with pytest.raises(ConstitutionError, match="the file's name cannot be"):
        parse(GOOD, name=name)


def test_load_file_takes_the_name_from_the_stem(tmp_path: Path) -> None:
    file = tmp_path / "mild.yaml"
    file.write_text(GOOD)
    assert load_file(file).name == "mild"
    file.write_text(version("1.0"))
    with pytest.raises(ConstitutionError) as caught:
        load_file(file)
    assert str(caught.value).startswith(f"{file}:1:10: ")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConstitutionError, match=r":1:1: cannot be read: "):
            load_file(path)


def test_hostile_files_need_little_memory(tmp_path: Path) -> None:
    hostile = [BOMB, also("x: " + "[" * 1_000_000), "- " * 900_000, "? " * 900_000,
               "".join(f"a{i}: &a{i} b\n" for i in range(20_000)), critique("1" + ":59" * 300_000),
               also("x: 1\n" * 24_000)]
    paths = [tmp_path / f"h{i}.yaml" for i in range(len(hostile))]
    for path, text in zip(paths, hostile, strict=True):
        path.write_text(text)
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from cai_assets.constitution.load import ConstitutionError, load_file\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for p in sys.argv[1:]:\n"
        "    try: load_file(Path(p))\n"
        "    except ConstitutionError as e: str(e)\n"
        "    else: sys.exit(p)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown = subprocess.run([sys.executable, "-c", code, *map(str, paths)], check=True, capture_output=True, text=True)
    assert int(grown.stdout) < 100 * 1024  # KiB
