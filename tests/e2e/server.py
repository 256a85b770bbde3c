"""``cai ui`` as a person starts it, on a home and data root of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.error import HTTPError

import psutil
from patience import QUIET, Watch, end, until

TESTS = Path(__file__).parents[1]
REPOSITORY = TESTS.parent
T = TypeVar("T")


class Served(NamedTuple):
    """The address of Dagster's pages, its folder, and that of the constitution files that its sensor watches."""

    url: str
    root: Path
    constitutions: Path


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@contextmanager
def serving(root: Path, environment: Mapping[str, str] | None = None, *, module: str | None = None,
            options: Sequence[str] = (), instance: str | None = None) -> Iterator[str]:
    """Yield the address of ``cai ui``; end every process of the server when the block ends.

    ``module``: of the tests, with other definitions than the project's; then ``root`` is a project of that module.
    ``instance``: the text of another dagster.yaml than the project's.
    """
    home, port = root / "home", free_port()
    home.mkdir()
    project = (REPOSITORY / "dagster_home" / "dagster.yaml").read_text()
    (home / "dagster.yaml").write_text(project if instance is None else instance)
    env = {**os.environ, "DAGSTER_HOME": str(home), "CAI_DATA_ROOT": str(root / "data"), **(environment or {})}
    if module:
        (root / "workspace.yaml").write_text(f"load_from: [{{python_module: {module}}}]")
        folders = [TESTS, *(TESTS / area for area in ("defs", "e2e", "train")), REPOSITORY]
        env["PYTHONPATH"] = os.pathsep.join([*map(str, folders), *filter(None, [env.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "cai_assets.cli", "ui", "--port", str(port), *options]
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=root if module else REPOSITORY, env=env, start_new_session=True,
                                   stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (root / "server.log").read_text()
        try:
            return bool(graphql(address, "{ version }"))
        except HTTPError as refused:
            return refused.code == 401

    try:
        wait_for(answers, root)
        yield address
        press_ctrl_c(process)
    finally:
        end(process)


def press_ctrl_c(process: subprocess.Popen[bytes]) -> None:
    """Once: it ends well, and with it the daemon and the code servers."""
    started = psutil.Process(process.pid).children(recursive=True)
    services = [p for p in started if {"dagster", "dagster._daemon"} & set(p.cmdline())]
    process.send_signal(signal.SIGINT)
    process.wait(QUIET)
    assert (process.returncode, psutil.wait_procs(services, timeout=QUIET)[1]) == (0, [])


def wait_for(check: Callable[[], T], root: Path) -> T:
    """The first true answer; given up when nothing moves in the server's runs and data: a heartbeat is no movement."""
    return until(check, Watch(root / "home" / "history" / "runs", root / "data"))


def graphql(url: str, query: str, **variables: Any) -> Any:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(url + "/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=QUIET) as response:
        return json.load(response)["data"]
