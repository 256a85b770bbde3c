"""Commands about constitution versions: ``register``, ``lint``, ``diff``, ``archive``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cai_assets.cli.common import app, err, open_instance, open_project, out, read_settings
from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.lint import lint as find
from cai_assets.constitution.load import ConstitutionError, load_file


@app.command()
def register() -> None:
    """Register the constitution files as they are now: an immutable snapshot and a partition for each new version."""
    from cai_assets.defs.execute import register as add

    settings = read_settings({})
    with open_instance() as instance:
        known = set(instance.get_dynamic_partitions("constitution_version"))
        keys, problems = add(instance, settings.constitutions, open_project(settings).snapshots)
    for key in keys:
        out.print(f"{'known' if key in known else '[green]new[/green]  '}  {key}")
    for problem in problems:
        err.print(problem, style="red", markup=False, highlight=False)
    out.print("Next: [b]cai materialize VERSION[/b], or the partition's page in [b]cai ui[/b]")
    raise typer.Exit(1 if problems else 0)


@app.command()
def lint(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files; default: all of constitutions/")] = None,
) -> None:
    """Check constitution files: errors with line and column, then advice. Exit code 1 if a file has errors."""
    folder = read_settings({}).constitutions
    bad = False
    for path in paths or sorted(p for p in folder.glob("*.yaml") if not p.name.endswith(".tests.yaml")):
        try:
            loaded = load_file(path)
        except (ConstitutionError, OSError) as e:
            bad = True
            err.print(str(e), style="red", markup=False, highlight=False)
            continue
        findings = find(loaded)
        bad = bad or any(f.level == "error" for f in findings)
        out.print(f"[b]{path.name}[/b]: {len(loaded.principles)} principles, version key {partition_key(loaded)}")
        for f in findings:
            out.print(f"  {f.level}: {f.principle or 'constitution'}: {f.message}", markup=False)
    raise typer.Exit(1 if bad else 0)
