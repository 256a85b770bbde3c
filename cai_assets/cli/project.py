"""Commands about a project's own files: ``init`` and ``upgrade``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cai_assets import __version__
from cai_assets.cli.common import app, err, out, read_settings
from cai_assets.errors import CaiError

if TYPE_CHECKING:
    from cai_assets.starter.project import Step

LONGEST = 40  # lines of a diff; schemas change by thousands
WORDS = {"new": "added", "changed": "replaced", "edited": "kept, because you edited it",
         "removed": "not written, because you removed it"}


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The project's folder, made if it does not exist")] = Path("."),
    deploy: Annotated[bool, typer.Option("--deploy", help=(
        "Also write deploy/: Kubernetes, Slurm, Ray, SkyPilot, an object store"))] = False,
) -> None:
    """Make a project: constitutions, settings, Dagster's files, a CI workflow, compose. Replaces no file."""
    from cai_assets.starter import project

    steps = project.init(folder, deploy=deploy)
    made = [s.path for s in steps if s.state == "new"]
    for step in steps:
        if step.state == "edited":
            _say(f"kept {folder / step.path}: it is there already, and differs")
    _say(f"{len(made)} files written in {folder}: {', '.join(made)}" if made else
         f"every file is there already in {folder}: nothing written")
    into = "" if folder == Path(".") else f"cd {folder}, "
    _say(f"Next: {into}cai lint, cai plan customer-service, cai demo. README.md says what each file is")
    if deploy:
        _say("deploy/ is for other machines: each file begins with how it is used, the chart's values.yaml too")


@app.command()
def upgrade(
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would change")] = False,
    take: Annotated[list[str] | None, typer.Option(
        help="Replace this file though you edited it, or write it though you removed it; repeatable")] = None,
) -> None:
    """Bring a project's files to the installed version: shows each change, and replaces no file that you edited.

    Then reads the settings and constitutions; exits with 1 if this version cannot.
    """
    from cai_assets.settings import project_root
    from cai_assets.starter import project

    root = project_root()
    steps = project.steps(root, take or ())
    for step in steps:
        if step.state != "same":
            _show(step, applied=not plan)
    for name in project.left_over(root):
        _say(f"{name}: this version does not write it: remove it, unless you use it")
    if not plan:
        project.apply(root, steps)
    count = sum(s.state in {"new", "changed"} for s in steps)
    _say(f"{count} of {len(steps)} files {'would change' if plan else 'changed'} for cai-assets {__version__}"
         if count else f"nothing to change for cai-assets {__version__}")
    problems = list(_unreadable())
    for problem in problems:
        err.print(problem, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1 if problems else 0)


def _show(step: Step, *, applied: bool) -> None:
    word = WORDS[step.state]
    _say(f"{step.path}: {word if applied or step.state in {'edited', 'removed'} else f'would be {word}'}")
    lines = step.diff.splitlines()
    for line in lines[:LONGEST]:
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        out.print(f"  {line}", style=style, markup=False, highlight=False, soft_wrap=True)
    if len(lines) > LONGEST:
        _say(f"  and {len(lines) - LONGEST} lines more")
    if step.state == "edited":
        _say(f"  Make these changes yourself, or take this version's file: cai upgrade --take {step.path}")


def _unreadable() -> Iterator[str]:
    """What this version does not read any more."""
    from cai_assets.constitution.file_text import FileError
    from cai_assets.constitution.files import constitution_files
    from cai_assets.constitution.load import load_file

    try:
        settings = read_settings({})
    except CaiError as e:
        yield str(e)
        return
    for path in constitution_files(settings.constitutions):
        try:
            load_file(path)
        except FileError as e:
            yield str(e)


def _say(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)
