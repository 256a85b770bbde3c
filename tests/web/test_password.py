"""The password comes from a file or the environment, and stays out of what is started from here."""

from __future__ import annotations

from pathlib import Path

import pytest

from cai_assets.settings import load_settings
from cai_assets.web.password import PasswordError, read_password


def test_there_is_none_unless_one_is_given() -> None:
    assert read_password(None, {}) is None


def test_it_is_taken_out_of_the_environment(tmp_path: Path) -> None:
    environment = {"CAI_UI_PASSWORD": "s3cret", "OTHER": "x"}
    assert read_password(None, environment) == "s3cret"
    assert environment == {"OTHER": "x"}


def test_a_file_wins_and_ends_at_its_last_line(tmp_path: Path) -> None:
    file, environment = tmp_path / "password", {"CAI_UI_PASSWORD": "other"}
    file.write_text("  s3cret ß \n")
    assert read_password(file, environment) == "  s3cret ß "
    assert environment == {}


def test_what_is_no_password_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(PasswordError, match="empty is empty; write one"):
        read_password(tmp_path / "empty", {})
    with pytest.raises(PasswordError, match="CAI_UI_PASSWORD is empty"):
        read_password(None, {"CAI_UI_PASSWORD": ""})
    for name in ("missing", "bytes"):
        with pytest.raises(PasswordError, match=rf"{name} cannot be read .*; write the password into it"):
            read_password(tmp_path / name, {})


def test_the_variable_is_no_setting() -> None:
    load_settings(environment={"CAI_UI_PASSWORD": "s3cret"})
