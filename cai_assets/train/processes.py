"""The processes of one training, as the launcher numbers them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from datetime import timedelta

PIPES = "DAGSTER_PIPES_"  # variables
PR_SET_PDEATHSIG = 1
AS_LONG_AS_IT_TAKES = timedelta(days=7)


def processes() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def environment_of_another() -> dict[str, str]:
    """For a process that this one starts: only this one reports to Dagster."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PIPES)}


def is_worker() -> bool:
    """Whether this process is one of those that a launcher has started."""
    return "RANK" in os.environ


def is_first() -> bool:
    """Whether it is the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def on_several_nodes() -> bool:
    """Whether they are on several machines."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1


def end_together() -> None:
    """Wait until the first process has published: so none ends well where that one fails, which ends the others."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    from torch.distributed import TCPStore

    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    if is_first():
        store.set("cai/published", "")
    else:
        store.wait(["cai/published"], AS_LONG_AS_IT_TAKES)


def end_with_parent() -> None:
    """Ask the system to kill this process when the one that started it dies, however it dies.

    Otherwise a killed run would leave behind a trainer that writes into the same folder as the next run's.
    """
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the request was made
            sys.exit(1)
