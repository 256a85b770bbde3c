"""``cai ui`` as a person starts it, on a home and data root of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

TESTS = Path(__file__).parents[1]
REPOSITORY = TESTS.parent


class Served(NamedTuple):
    """The address of Dagster's pages, and the folder of constitution files that its sensor watches."""

    url: str
    constitutions: Path


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@contextmanager
def serving(root: Path, environment: Mapping[str, str] | None = None, *, module: str | None = None) -> Iterator[str]:
    """Yield the address; end every process of the server when the block ends.

    ``module``: of the tests, with other definitions than the project's; then it is ``dagster dev -m MODULE``.
    """
    home, port = root / "home", free_port()
    home.mkdir()
    shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", home)
    env = {**os.environ, "DAGSTER_HOME": str(home), "CAI_DATA_ROOT": str(root / "data"), **(environment or {})}
    command = ["cai_assets.cli", "ui", "--port", str(port)]
    if module:
        command = ["dagster", "dev", "-m", module, "-h", "127.0.0.1", "-p", str(port)]
        folders = [TESTS, *(TESTS / area for area in ("defs", "e2e", "train"))]
        env["PYTHONPATH"] = os.pathsep.join([*map(str, folders), *filter(None, [env.get("PYTHONPATH")])])
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", *command], cwd=REPOSITORY, env=env, start_new_session=True,
                                   stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: graphql(address, "{ version }"), 120)
        yield address
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End the server and all it started; politely first."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def wait_for(check: Any, seconds: float) -> Any:
    """The first true answer within the time; the last error otherwise."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := check():
                return found
        except OSError:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.5)


def graphql(url: str, query: str, **variables: Any) -> Any:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(url + "/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["data"]
