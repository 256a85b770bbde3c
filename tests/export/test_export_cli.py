"""``cai export``: what it says, what it refuses, and that the network is touched by --push alone."""

from __future__ import annotations

import builtins
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from exported import world
from typer.testing import CliRunner, Result

from cai_assets.cli import app
from cai_assets.export.extra import ExportError
from cai_assets.export.push import push, refuse_push


def _cai(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["export", *arguments], env={"CAI_DATA_ROOT": str(world().data), "COLUMNS": "200"})


def test_the_three_commands_write_and_say_what_next_without_any_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was touched")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    said = [_cai("dataset", world().version, "--out", str(tmp_path / "d")),
            _cai("model", f"rl_policy@{world().version}", "--out", str(tmp_path / "m")),
            _cai("lineage", f"rl_policy@{world().version}", "--out", str(tmp_path / "l"))]
    for result in said:
        assert result.exit_code == 0, result.output
        assert "Next: " in result.output
    assert "preferences: train" in said[0].output
    assert f"evaluation/{world().version}/" in said[1].output
    assert "bom.cdx.json" in said[2].output
    assert (tmp_path / "m" / "lineage.json").is_file()


def test_refusals_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    version, new = world().version, str(tmp_path / "new")
    for arguments, words in (
        (("dataset", version, "--out", str(tmp_path / "full")), "--force"),
        (("dataset", version, "--out", new, "--kind", "rows"), "sft, preferences"),
        (("dataset", version, "--out", new, "--public"), "--push"),
        (("dataset", version, "--out", new, "--push", "me/data"), "HF_TOKEN"),
        (("dataset", version, "--out", new, "--push", "me/data", "--public"), "--license"),
        (("model", f"rl_policy@{version}", "--out", new, "--dataset", "mine"), "OWNER/NAME"),
        (("model", f"rl_policy@{version}", "--out", new, "--push", "no name!"), "cannot be pushed"),
        (("lineage", "nothing@here", "--out", new), "cannot trace"),
    ):
        result = _cai(*arguments)
        assert result.exit_code == 2, result.output
        assert words in result.output, arguments
    assert not (tmp_path / "new").exists()


def test_a_library_that_is_missing_is_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.split(".", maxsplit=1)[0] in {"openlineage", "cyclonedx", "jsonschema", "huggingface_hub"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".", maxsplit=1)[0])
        return known(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    for arguments in (("lineage", f"sl_policy@{world().version}"), ("dataset", world().version),
                      ("model", f"sl_policy@{world().version}")):
        result = _cai(*arguments, "--out", str(tmp_path / "out"))
        assert result.exit_code == 2
        assert "cai-assets[export]" in result.output
        assert not (tmp_path / "out").exists()


def test_the_command_line_opens_without_the_optional_libraries() -> None:
    heavy = ("openlineage", "cyclonedx", "jsonschema", "huggingface_hub", "torch", "transformers", "datasets",
             "inspect_ai")
    code = f"import sys, cai_assets.cli; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_push_without_a_network_says_so_and_keeps_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "cai_assets.cli", "export", "dataset", world().version, "--out", str(out), "--kind",
         "sft", "--push", "me/data"], capture_output=True, text=True, check=False,
        env={**os.environ, "CAI_DATA_ROOT": str(world().data), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_x",
             "COLUMNS": "200"})
    assert done.returncode == 2
    assert "was written, but not pushed to me/data" in done.stderr
    assert "Traceback" not in done.stderr
    assert (out / "README.md").is_file()


class Hub:
    """What the Hub's client is asked for."""

    asked: list[tuple[str, Any]]

    def __init__(self, private: bool) -> None:
        self.private, self.asked = private, []

    def __call__(self, token: str) -> Hub:
        self.asked.append(("token", token))
        return self

    def create_repo(self, name: str, **how: Any) -> None:
        self.asked.append(("create", (name, how)))

    def repo_info(self, name: str, **how: Any) -> Any:
        return self

    def upload_folder(self, **how: Any) -> Any:
        self.asked.append(("upload", how))
        return type("Commit", (), {"commit_url": "done"})


def test_a_push_is_private_unless_asked_and_never_into_a_public_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(private=True)
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    assert push(tmp_path, "me/data", repo_type="dataset", token="hf_x") == "done"
    asked = dict(hub.asked)
    assert asked["token"] == "hf_x"
    assert asked["create"] == ("me/data", {"repo_type": "dataset", "private": True, "exist_ok": True})
    assert asked["upload"]["folder_path"] == tmp_path
    public = Hub(private=False)
    monkeypatch.setattr("huggingface_hub.HfApi", public)
    with pytest.raises(ExportError, match="already public"):
        push(tmp_path, "me/data", repo_type="dataset", token="hf_x")
    assert "upload" not in dict(public.asked)
    push(tmp_path, "me/data", repo_type="dataset", token="hf_x", public=True)
    assert dict(public.asked)["create"][1]["private"] is False


def test_a_push_takes_the_token_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    assert refuse_push("me/model", public=False, license_=None) == "hf_mine"
    assert refuse_push("me/model", public=True, license_="mit") == "hf_mine"
