"""JSON that is read back: whole, and no name twice in an object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.store.journal import Journal, JournalDamaged
from cai_assets.store.json_text import NotJson, parse_json, read_json
from cai_assets.store.layout import Layout

VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
                      lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


@given(VALUES)
def test_what_was_written_is_read(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": 3}}]', '{"a": 1, "\\u0061": 2}'])
def test_a_name_twice_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="'a' is there twice"):
        parse_json(text)


@pytest.mark.parametrize(("text", "why"), [
    (b"", "Expecting value"), (b"{", "Expecting property name"), (b"[" * 100_000, "nested too deeply"),
    (b"\xff\xfe\x00", "decode"), (b'{"a": 1}\0', "Extra data"), (b'{"x": 1, "x": 2}', "'x' is there twice")])
def test_a_file_that_is_not_json_is_named_with_its_remedy(tmp_path: Path, text: bytes, why: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(text)
    with pytest.raises(NotJson) as e:
        read_json(path, remedy="copy it again")
    assert str(e.value).startswith(f"{path} is not JSON (")
    assert str(e.value).endswith("): copy it again")
    assert why in str(e.value)


@pytest.mark.parametrize("text", ["[", '{"key": "v1"}', '[{"key": 1, "key": 2}]'])
def test_a_damaged_list_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(JournalDamaged, match=r"list\.json is not .*: restore it, or move it away"):
        Journal(Layout(tmp_path), "list.json").entries()
