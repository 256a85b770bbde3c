from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cai_assets.store.files import write_atomic
from cai_assets.store.layout import Layout, safe_name
from cai_assets.store.storage import UnsafeName


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=40))
def test_no_name_leads_outside_the_root(tmp_path: Path, name: str) -> None:
    layout = Layout(tmp_path / "root")
    try:
        path = layout.file("tables", name)
    except UnsafeName:
        return
    assert path.parent == layout.root / "tables"


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc", "a/b", "A", "a..b", ".h", "-rf", "a\n", "x" * 200, "é"])
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(UnsafeName):
        safe_name(name)


def test_stored_paths_stay_inside(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.absolute(layout.relative(tmp_path / "a" / "b")) == tmp_path.resolve() / "a" / "b"
    with pytest.raises(UnsafeName):
        layout.absolute("../elsewhere")


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
