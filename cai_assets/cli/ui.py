"""``cai ui``: the studio, and Dagster's pages of this project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cai_assets.cli.common import app, open_instance, open_project, out, read_settings


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1", min=1, max=65535)] = 3000,
    read_only: Annotated[bool, typer.Option(help="View only, no changes")] = False,
    public_url: Annotated[list[str] | None, typer.Option(
        help="Address under which a reverse proxy serves it, such as https://cai.example.org; repeatable")] = None,
    password_file: Annotated[Path | None, typer.Option(
        help="Ask for the password in this file; CAI_UI_PASSWORD in the environment does the same")] = None,
) -> None:
    """Open the studio and Dagster on 127.0.0.1, for this machine's user alone (docs/studio.md, docs/security.md)."""
    from cai_assets.settings import project_root
    from cai_assets.versions.snapshots import VERSIONS
    from cai_assets.web.password import read_password
    from cai_assets.web.serve import serve

    password = read_password(password_file)
    root = project_root()
    os.chdir(root)
    with open_instance() as instance:
        instance.add_dynamic_partitions(VERSIONS, open_project(read_settings({})).snapshots.known())
        asks = "asks for the password" if password else "no password"
        out.print(f"Studio on http://127.0.0.1:{port}/studio/ (read, edit and compare constitutions)", highlight=False,
                  soft_wrap=True)
        out.print(f"Dagster on http://127.0.0.1:{port} (instance in {instance.root_directory}; {asks}); "
                  "stop it with Ctrl-C", highlight=False, soft_wrap=True)
        serve(instance, root / "workspace.yaml", port=port, read_only=read_only, public=public_url or (),
              password=password)
