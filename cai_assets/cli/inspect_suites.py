"""``cai inspect``: suites as Inspect tasks, with logs for its viewer."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cai_assets.cli.common import AsJson, Set, app, out, parse_overrides, read_settings, stop
from cai_assets.reports.text.terminal import terminal_table

COUNTS = ("value", "low", "high", "requests", "not scored")


@app.command("inspect")
def inspect_(
    suites: Annotated[list[str], typer.Argument(help="Suites, such as jailbreak")],
    policy: Annotated[str, typer.Option(help="POLICY@VERSION, base, one of evaluation.others, or a checkpoint's key or "
                                             "folder")],
    log_dir: Annotated[Path, typer.Option(help="Where Inspect's logs go")],
    version: Annotated[str | None, typer.Option(help="Exclude cases close to this version's training prompts; "
                                                     "default: the policy's own")] = None,
    set_: Set = None, json_: AsJson = False,
) -> None:
    """Run suites as Inspect tasks (inspect-ai) on any checkpoint, reusing existing rows."""
    if importlib.util.find_spec("inspect_ai") is None:
        stop("Inspect is not installed: pip install 'cai-assets[inspect]'")
    from cai_assets.inspect_bridge.run import run_suites

    overrides = parse_overrides(None, set_)
    read_settings(overrides)
    logs = run_suites(suites, policy, version=version, log_dir=log_dir, settings=overrides)
    if json_:
        typer.echo(json.dumps([{**log._asdict(), "path": str(log.path), "rows": [
            dict(zip(("measure", *COUNTS), row, strict=True)) for row in log.rows]} for log in logs], indent=1))
        return
    table = terminal_table("suite", "measure", *COUNTS, title=f"{policy} under Inspect", right=COUNTS)
    for log in logs:
        for row in log.rows:
            table.add_row(log.suite, *map(_cell, row))
    out.print(table)
    for log in logs:
        out.print(f"{log.suite}: {log.samples} samples, {log.failed} failed, {log.generated} calls made, {log.reused} "
                  f"rows reused: {log.path}", markup=False, highlight=False, soft_wrap=True)
    out.print(f"View the logs: [b]inspect view --log-dir {log_dir}[/b]", soft_wrap=True)


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
