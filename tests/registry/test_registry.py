"""Rows by name: our own, those that packages add, and what is said of names and packages that are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from extensions import install

from cai_assets.registry.base import NotRegistered, Origin, Registry, load


@dataclass(frozen=True)
class Tool:
    use: str


TOOLS = Registry("tool", Tool, {"saw": Tool("cut")}, group="test.tools")
CLOSED = Registry("tool", Tool, {"saw": Tool("cut")})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def added(site: Path, line: str, **more: str) -> None:
    module = line.split("=")[1].split(":", maxsplit=1)[0].strip()
    text = f"from {__name__} import Tool\nROW = Tool('join')\nTEXT = 'no row'\n"
    install(site, {f"{module}.py": more.pop("text", text)}, {"test.tools": line}, **more)


def test_a_package_adds_a_row_and_is_known_as_its_origin(site: Path) -> None:
    assert TOOLS.names() == ("saw",)
    added(site, "glue = tools_a:ROW")
    assert TOOLS.names() == ("saw", "glue")
    assert (TOOLS["saw"], TOOLS["glue"]) == (Tool("cut"), Tool("join"))
    assert TOOLS.origin("glue") == Origin("my-package", "1.2")
    assert TOOLS.origin("saw") is None
    assert CLOSED.names() == ("saw",)


def test_an_unknown_name_is_refused_with_all_that_are_known(site: Path) -> None:
    added(site, "glue = tools_b:ROW")
    known = r"'glu' is no tool: choose one of auto, saw, glue, or install .*\(test\.tools\)"
    with pytest.raises(NotRegistered, match=known):
        TOOLS.check("glu", "auto")
    with pytest.raises(NotRegistered, match=r"'glue' is no tool: choose one of saw$"):
        CLOSED["glue"]
    assert TOOLS.check("auto", "auto") == "auto"


@pytest.mark.parametrize(("line", "text", "message"), [
    ("glue = tools_c:TEXT", "TEXT = 'no row'", r"tool 'glue', added by my-package 1.2 as tools_c:TEXT, is a str and"),
    ("glue = tools_d:ROW", "", r"my-package 1.2 as tools_d:ROW, does not load \(AttributeError: "),
    ("glue = tools_e:ROW", "import no_such_module", r"does not load \(ModuleNotFoundError: No module named 'no_such"),
    ("saw = tools_f:ROW", "", "has a name that cai-assets itself has registered"),
])  # fmt: skip
def test_a_package_at_fault_is_named(site: Path, line: str, text: str, message: str) -> None:
    added(site, line, text=text)
    with pytest.raises(NotRegistered, match=message):
        TOOLS[line.split(maxsplit=1)[0]] if line.startswith("glue") else TOOLS.names()


def test_two_packages_may_not_claim_one_name(site: Path) -> None:
    added(site, "glue = tools_g:ROW")
    added(site, "glue = tools_h:ROW", name="other")
    with pytest.raises(NotRegistered, match=r"has a name that .* has registered: rename it"):
        TOOLS.check("glue")


def test_a_name_of_our_own_needs_no_look_at_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cai_assets.registry.base.entry_points", lambda **_: pytest.fail("looked"))
    assert TOOLS.check("saw") == "saw"
    assert TOOLS["saw"].use == "cut"


def test_code_is_named_and_imported_when_it_is_used() -> None:
    assert load("math:tau") > 6
