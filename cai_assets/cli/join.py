"""``cai join``: a further machine for trainings."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Annotated

import typer

from cai_assets.cli.common import app, err, stop
from cai_assets.settings import Nodes

SLURM = "SLURM_LAUNCH_NODE_IPADDR"  # of the node where srun was called
PAUSE_SECONDS = 2.0


@app.command()
def join(
    address: Annotated[str, typer.Argument(
        help="HOST:PORT of the run, as it says. In a job of Slurm: that of the node where srun was called")] = "",
    once: Annotated[bool, typer.Option("--once", help="End after one training, with exit code 1 if it failed")] = False,
) -> None:
    """Take part in the trainings of a run with train.nodes above 1, one after the other, from a further machine.

    It waits for them until it is ended. The machine must see the project's environment and the data root at the same
    paths as the machine of the run.
    """
    from cai_assets.train.agent import NOT_NEEDED, endpoint

    if not address and SLURM in os.environ:
        address = f"{os.environ[SLURM]}:{Nodes().port}"
    try:
        host, port = endpoint(address)
    except ValueError as e:
        stop(str(e), 2)
    err.print(f"Waits for trainings at {host}:{port}. Ctrl-C ends it.")
    while True:
        status = subprocess.run([sys.executable, "-m", "cai_assets.train.agent", address], check=False).returncode
        if status != NOT_NEEDED:
            err.print("A training is done." if status == 0 else "A training has failed; the run's log says why.")
            if once:
                raise typer.Exit(int(status != 0))
        time.sleep(PAUSE_SECONDS)
