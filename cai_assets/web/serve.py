"""What ``cai ui`` runs: Dagster's web server behind the guard, its daemon, and the code servers that both share.

As ``dagster dev`` does it, except that the web server is in this process and behind the guard. It listens on 127.0.0.1
alone; code servers listen on Unix sockets of this user's, and the daemon on nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import dagster as dg
import uvicorn
import yaml
from dagster._cli.proxy_server_manager import ProxyServerManager
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._utils.interrupts import setup_interrupt_handlers
from dagster._utils.log import configure_loggers
from dagster_shared.ipc import get_ipc_shutdown_pipe, open_ipc_subprocess, send_ipc_shutdown_message
from dagster_shared.serdes import serialize_value
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.cli import DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_MAX_OVERFLOW, DEFAULT_POOL_RECYCLE
from starlette.routing import Mount

from cai_assets.errors import CaiError
from cai_assets.studio.app import AT, studio
from cai_assets.web.addresses import Addresses
from cai_assets.web.guard import Guard
from cai_assets.web.password import Password
from cai_assets.web.runs import DagsterRuns

HOST = "127.0.0.1"
GRACE_SECONDS = 60


class ServerError(CaiError):
    """The server cannot start or go on. The message says why and what to do."""


def serve(instance: dg.DagsterInstance, workspace: Path, *, port: int, read_only: bool = False,
          public: Sequence[str] = (), password: str | None = None) -> None:
    """Serve until Ctrl-C, SIGTERM, or the end of the daemon, which is a ServerError. Read-only: without a daemon."""
    own = Addresses.of(port, public)
    configure_loggers()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and would never end
    setup_interrupt_handlers()  # SIGTERM ends as Ctrl-C does
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        listener = stack.enter_context(_listening(port))
        servers = stack.enter_context(_code_servers(instance, workspace))
        context = stack.enter_context(_web_context(instance, servers, read_only=read_only))
        app = create_app_from_workspace_process_context(context, lifespan=_lifespan, live_data_poll_rate=2000)
        app.router.routes.insert(0, Mount(AT, studio(DagsterRuns(context))))  # before Dagster's page for any address
        web = uvicorn.Server(uvicorn.Config(Guard(app, own, Password(password) if password else None),
                                            log_level="warning", proxy_headers=False, timeout_graceful_shutdown=5))
        if not read_only:
            stack.enter_context(_daemon(instance, servers, web))
        web.run(sockets=[listener])


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """The port, taken before what takes time is started; who asks early waits."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen()
        except OSError as e:
            raise ServerError(f"port {port} on {HOST} cannot be used ({e.strerror}); choose one with --port") from None
        yield listener


@contextmanager
def _code_servers(instance: dg.DagsterInstance, workspace: Path) -> Iterator[Path]:
    """Start what ``workspace`` names; yield a workspace file with the sockets."""
    if not workspace.is_file():
        raise ServerError(f"{workspace} does not exist; run 'cai ui' in the folder of a project, which has one")
    target = WorkspaceFileTarget([str(workspace)])
    with (ProxyServerManager(instance, target, code_server_log_level="WARNING") as servers,
          tempfile.TemporaryDirectory() as folder):
        file = Path(folder) / "workspace.yaml"
        file.write_text(yaml.safe_dump({"load_from": list(servers.get_code_server_specs())}), encoding="utf-8")
        yield file


@contextmanager
def _web_context(instance: dg.DagsterInstance, servers: Path, *, read_only: bool) -> Iterator[WorkspaceProcessContext]:
    instance.optimize_for_webserver(DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_RECYCLE, DEFAULT_POOL_MAX_OVERFLOW)
    target = WorkspaceFileTarget([str(servers)])
    with WorkspaceProcessContext(instance, target, version=dg.__version__, read_only=read_only) as context:
        yield context


@asynccontextmanager
async def _lifespan(app: object) -> AsyncIterator[None]:
    """Ends without a traceback when the server is cancelled."""
    with suppress(asyncio.CancelledError):
        yield


@contextmanager
def _daemon(instance: dg.DagsterInstance, servers: Path, web: uvicorn.Server) -> Iterator[None]:
    """Run sensors, schedules and the run queue in a process of its own. When it ends by itself, so does ``web``."""
    to_read, to_write = get_ipc_shutdown_pipe()
    process = open_ipc_subprocess(
        [sys.executable, "-m", "dagster._daemon", "run", "--shutdown-pipe", str(to_read), "--workspace", str(servers),
         "--instance-ref", serialize_value(instance.get_ref()), "--code-server-log-level", "warning"],
        pass_fds=[to_read])
    os.close(to_read)
    died = Event()
    Thread(target=_end_with, args=(process, web, died), daemon=True).start()
    try:
        yield
        if died.is_set():
            raise ServerError(f"Dagster's daemon has ended with code {process.returncode}, so that no run would start; "
                              "its last lines above say why. Start 'cai ui' again.")
    finally:
        _end(process, to_write)


def _end_with(process: subprocess.Popen[bytes], web: uvicorn.Server, died: Event) -> None:
    process.wait()
    if not web.should_exit:
        died.set()
        web.should_exit = True


def _end(process: subprocess.Popen[bytes], pipe: int) -> None:
    with suppress(BrokenPipeError):
        send_ipc_shutdown_message(pipe)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
