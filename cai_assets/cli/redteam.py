"""Review the prompts that broke a policy and train on them: breaks, review, accept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from cai_assets.cli.common import AsJson, Set, app, err, open_project, out, parse_overrides, read_settings, stop

red_team = typer.Typer(no_args_is_help=True, help=__doc__)
app.add_typer(red_team, name="red-team")

Review = Annotated[Path, typer.Argument(help="The review file, .jsonl or .csv", metavar="FILE")]
Target = Annotated[str, typer.Argument(help="A version, POLICY@VERSION, or a checkpoint's key or folder",
                                       metavar="CHECKPOINT-OR-VERSION")]


@red_team.command()
def breaks(
    target: Target,
    file: Annotated[Path, typer.Option("--out", help="Where to write the review file: .jsonl, or .csv")],
    policy: Annotated[str, typer.Option(help="Which policy of a version")] = "rl_policy",
    kind: Annotated[Literal["complied", "over-refusal"], typer.Option(
        help="complied: answers to attacks; over-refusal: harmless requests that were declined")] = "complied",
    suite: Annotated[list[str] | None, typer.Option(help="Only this suite; repeatable")] = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="Include held-out evaluation prompts; those you keep "
                                                              "leave the evaluation")] = False,
    set_: Set = None, json_: AsJson = False,
) -> None:
    """Write the prompts that broke a policy to a file for review. Runs no model."""
    from cai_assets.evals.refusal_labels import how_good
    from cai_assets.evals.review_file import write_review
    from cai_assets.pipeline.red_team import find_breaks

    if file.exists():
        stop(f"{file} exists and may hold decisions: resume with 'cai red-team review {file}', or name another file")
    project = open_project(read_settings(parse_overrides(None, set_)))
    search = find_breaks(project, target, policy, "complied" if kind == "complied" else "over-refused",
                         suites=suite or (), held_out=held_out)
    if search.breaks:
        write_review(file, search.breaks)
    who = f"{search.subject.policy} of {search.subject.version} ({search.subject.checkpoint[:14]})"
    if search.unknown:
        err.print(f"excluded {search.unknown} answers whose prompts are not in the row store", style="red")
    if json_:
        typer.echo(json.dumps({"policy": search.subject.policy, "version": search.subject.version,
                               "answers": search.rows, "breaks": len(search.breaks), "unknown": search.unknown,
                               "file": str(file) if search.breaks else None}, indent=1))
        return
    if not search.breaks:
        out.print(f"nothing broke {who} in {search.rows} answers", markup=False)
        return
    out.print(f"{len(search.breaks)} prompts broke {who}, out of {search.rows} answers: {file}", markup=False,
              soft_wrap=True)
    out.print(how_good(search.rule), markup=False, highlight=False, soft_wrap=True)
    out.print(f"Next: [b]cai red-team review {file}[/b]", soft_wrap=True)


@red_team.command()
def review(file: Review) -> None:
    """Decide on each prompt: keep, drop, edit. Every decision is saved immediately; rerun to resume.

    You can also edit the file by hand: set 'keep' to yes or no.
    """
    from cai_assets.cli.reviewer import review_all

    left = review_all(file)
    if left:
        out.print(f"{left} left. Resume with [b]cai red-team review {file}[/b]", soft_wrap=True)
    else:
        out.print(f"All reviewed. Next: [b]cai red-team accept {file} --into prompts/red-team-1.jsonl[/b]",
                  soft_wrap=True)


@red_team.command("accept")
def accept_(
    file: Review,
    into: Annotated[Path, typer.Option(help="The prompt file to add them to, .jsonl; created if missing")],
    set_: Set = None,
) -> None:
    """Add the kept prompts to a prompt file, once every row is reviewed. Overwrites nothing."""
    from cai_assets.evals.red_team import NotReviewed
    from cai_assets.evals.review_file import read_review
    from cai_assets.pipeline.red_team import accept_into
    from cai_assets.settings.base import project_root

    if into.suffix != ".jsonl":
        stop(f"{into}: a prompt file that grows must end in .jsonl")
    settings = read_settings(parse_overrides(None, set_))
    target = project_root() / into.expanduser()
    try:
        accepted = accept_into(open_project(settings), read_review(file), target)
    except NotReviewed as e:
        raise NotReviewed(f"{file}: {e} (cai red-team review {file})") from None
    out.print(f"{len(accepted.rows)} prompts added to {target}; {accepted.dropped} dropped, {accepted.known} are "
              "already training prompts", markup=False, soft_wrap=True)
    if target.exists() and target not in settings.prompts.paths:
        paths = [*(str(p) for p in settings.prompts.paths or ("bundled",)), str(into)]
        out.print(f"To train on them: set prompts.paths=[{', '.join(paths)}] in settings.yaml or with --set, then run "
                  "cai plan VERSION", markup=False, soft_wrap=True)
