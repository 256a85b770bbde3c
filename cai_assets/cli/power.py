"""What an effect needs to be found: ``cai plan VERSION --power EFFECT``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich.markup import escape

from cai_assets.cli.common import out, stop
from cai_assets.evals.power import POWER
from cai_assets.plan.power import Needed, plan_power
from cai_assets.plan.words import number
from cai_assets.reports.text.terminal import terminal_table

COLUMNS = ("measure", "spread", "detectable now", "prompts needed", "or samples", "calls", "tokens", "seconds")


def show_power(project: Any, version: str, effect: float, *, json_: bool) -> None:
    """Print how many prompts each measure needs."""
    if not 0 < effect < 1:
        stop(f"--power {effect:g}: give a difference between shares, above 0 and below 1, such as 0.1")
    found = plan_power(project, version, effect)
    if json_:
        out.print_json(json.dumps(asdict(found)))
        return
    wanted = project.settings.evaluation
    out.print(escape(f"To find a true difference of {effect:g} in {POWER:.0%} of trials, by intervals of "
                     f"{wanted.confidence:.0%} over prompts"), style="bold", highlight=False, soft_wrap=True)
    table = terminal_table(*COLUMNS, right=COLUMNS[1:], whole=COLUMNS)
    for line in found.lines:
        table.add_row(escape(line.measure), *_cells(line))
    out.print(table)
    for remark in _remarks(found.source, found.lines, wanted.samples):
        out.print(escape(remark), highlight=False, soft_wrap=True)


def _cells(line: Needed) -> tuple[str, ...]:
    needed = "too many" if line.prompts is None else f"{line.prompts:,}"
    return (f"{line.spread:.2g}{'' if line.measured_on else ' (assumed)'}", f"{line.detectable:.2g}", needed,
            str(line.samples_instead or "–"), "–" if line.calls is None else f"{line.calls:,}",
            number(line.tokens), number(line.seconds))


def _remarks(source: str | None, lines: tuple[Needed, ...], samples: int) -> list[str]:
    known = {line.setting: line.prompts for line in sorted(lines, key=lambda x: x.prompts or 0) if line.prompts}
    measured = max((line.measured_on for line in lines), default=0)
    few = ", of few prompts: the spread is rough" if 0 < measured < 30 else ""
    out = [f"Spread: standard deviation of a prompt's difference, measured on {source}{few}." if source else
           "No evaluation is stored yet: the spread is that of coins, the largest that independent answers have."]
    return [*out, f"Prompts with {samples} sample{'s' * (samples > 1)} each; 'or samples': so many of each prompt that "
                  "there is now do as well (known where evaluation.samples is at least 2). Calls, tokens, and seconds: "
                  "the whole evaluation with so many prompts; rows that are stored are reused.",
            f"For all of them: {' '.join(f'-s {name}={n}' for name, n in known.items())}"]
