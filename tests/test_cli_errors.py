"""Our own errors end as one message on stderr, in one place; anything else is a bug and keeps its traceback."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cai_assets
from cai_assets.cli import app
from cai_assets.errors import CaiError
from cai_assets.store import compaction, garbage
from cai_assets.store.parquet import StoreCorrupt

BUILT_IN = {name for name, value in vars(builtins).items() if isinstance(value, type)
            and issubclass(value, BaseException)}


def test_every_exception_of_ours_has_the_one_base() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(cai_assets.__path__[0]).rglob("*.py")]
    bases = {c.name: [ast.unparse(b) for b in c.bases] for tree in trees for c in ast.walk(tree)
             if isinstance(c, ast.ClassDef)}
    ours = {name: of for name, of in bases.items() if BUILT_IN & set(of) and name != CaiError.__name__}
    assert len(ours) > 15
    above = {name: {*of, *(b for one in of for b in bases.get(one, []))} for name, of in ours.items()}
    assert [name for name, of in above.items() if CaiError.__name__ not in of] == []


def test_an_error_is_one_message_and_exit_code_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path))
    for arguments in (["report", "nothing"], ["compare", "nothing", "else"], ["archive", "nothing"],
                      ["why", "critiques", "nothing", "--against", "else"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2, result.output
        assert isinstance(result.exception, SystemExit)
        assert result.stderr.strip()
        assert not result.stdout


def test_an_error_of_the_store_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path))

    def fail(*_: object, **__: object) -> None:
        raise StoreCorrupt("rows/respond/1.parquet cannot be read")

    monkeypatch.setattr(garbage, "gc", fail)
    result = CliRunner().invoke(app, ["store", "gc"])
    assert (result.exit_code, result.stderr) == (1, "rows/respond/1.parquet cannot be read\n")


def test_a_full_disk_is_one_message_and_a_bug_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path))
    (tmp_path / "rows" / "respond").mkdir(parents=True)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compaction, "compact", full)
    result = CliRunner().invoke(app, ["store", "compact"])
    assert (result.exit_code, result.stderr) == (1, "[Errno 28] No space left on device\n")

    def bug(*_: object, **__: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(compaction, "compact", bug)
    assert isinstance(CliRunner().invoke(app, ["store", "compact"]).exception, TypeError)
