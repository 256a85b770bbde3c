"""``cai rescore``: what an edited constitution would have rewarded, before RL is paid for."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cai_assets.cli.common import Scale, Set, app, find_constitution, open_project, out, parse_overrides, read_settings

if TYPE_CHECKING:
    from cai_assets.evals.rescore import Rescored

EXCERPT = 160


@app.command()
def rescore(
    version: Annotated[str, typer.Argument(help="A version whose RL policy was rewarded by rl.reward=rubric")],
    constitution: Annotated[str, typer.Option(help="A file in constitutions/, or a registered version")],
    plan: Annotated[bool, typer.Option("--plan", help="Only say how many calls it would cost")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
    scale: Scale = None, set_: Set = None,
) -> None:
    """Score the stored rollouts of a version by another constitution: only changed principles are asked again.

    Says for how many prompts the order of the responses changes, by how much, and shows examples.
    """
    from cai_assets.pipeline.rescore import judge, rescore, scoring_of, side_of
    from cai_assets.plan.dry import DryCompleter

    project = open_project(read_settings(parse_overrides(scale, set_)))
    found, new = scoring_of(project, version), find_constitution(project.settings, constitution)
    complete = judge(project)
    dry = DryCompleter(complete.engine.identity, project.store, seed=project.settings.seed)
    side_of(project, found, new, dry)
    usage = dry.usage.get("rubric")
    reused, calls = (usage.reused if usage else 0), len(dry.missing)
    if not json_:
        out.print(f"{found.record.ref.id}: {found.rollouts.height} rollouts; {calls} calls to the labeler, {reused} "
                  "answers reused", highlight=False, soft_wrap=True)
    if plan:
        return
    made = rescore(project, found, new, complete)
    project.engines.close()
    if json_:
        typer.echo(json.dumps({"record": found.record.ref.id, "calls": calls, **asdict(made)}, indent=1))
        return
    _show(made)


def _show(made: Rescored) -> None:
    from cai_assets.reports.text.numbers import amount, interval, share

    lines = [f"The order of responses changes for {share(made.changed)} prompts; {share(made.turned)} pairs turn; "
             f"Kendall's tau between both orders {amount(made.tau)}.",
             *(f"  {name}: {interval(e)} over {e.n} prompts" for name, e in made.moved.items())]
    for e in made.examples:
        lines += [f"{e.prompt_id}: reward {_two(e.rewards_first)} of: {_short(e.first)}",
                  f"{' ' * len(e.prompt_id)}  reward {_two(e.rewards_second)} of: {_short(e.second)}"]
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _short(text: str) -> str:
    return " ".join(text.split())[:EXCERPT]


def _two(rewards: tuple[float, float]) -> str:
    return f"{rewards[0]:.2f} → {rewards[1]:.2f}"
