"""What keeps ``cai ui`` from starting, or ends it, is said in one line."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import uvicorn
from patience import until

from cai_assets.web import serve


def test_a_port_in_use_is_named_before_anything_is_started() -> None:
    with socket.socket() as taken:
        taken.bind((serve.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(serve.ServerError, match=rf"port {port} on 127.0.0.1 cannot be used .*--port"), \
                serve._listening(port):
            pass


def test_it_listens_on_this_machine_alone() -> None:
    with serve._listening(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_folder_without_a_workspace_is_named(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(serve.ServerError, match="does not exist; run"), \
            serve._code_servers(instance, tmp_path / "workspace.yaml"):
        pass


def daemons(monkeypatch: pytest.MonkeyPatch, script: str) -> list[subprocess.Popen[bytes]]:
    """Where processes of the script are put that are started in place of Dagster's daemon."""
    processes = []

    def instead(_: list[str], **options: Any) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen([sys.executable, "-c", script], **options))
        return processes[-1]

    monkeypatch.setattr(serve, "open_ipc_subprocess", instead)
    return processes


def test_the_server_ends_with_a_daemon_that_ends_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    daemons(monkeypatch, "raise SystemExit(3)")
    web = uvicorn.Server(uvicorn.Config(lambda *_: None))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, \
            pytest.raises(serve.ServerError, match="daemon has ended with code 3"), \
            serve._daemon(instance, tmp_path / "workspace.yaml", web):
        until(lambda: web.should_exit)


def test_a_daemon_ends_with_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    processes = daemons(monkeypatch, "import time; time.sleep(1e6)")
    monkeypatch.setattr(serve, "GRACE_SECONDS", 0.1)  # this one listens to nobody
    web = uvicorn.Server(uvicorn.Config(lambda *_: None))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, \
            serve._daemon(instance, tmp_path / "workspace.yaml", web):
        web.should_exit = True
    (process,) = processes
    until(lambda: process.poll() is not None)
