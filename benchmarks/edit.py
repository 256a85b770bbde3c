"""What an edit of one principle costs beside a full run, on the real model: ``python benchmarks/edit.py [--json]``.

On a new data root: a full run; one word more in the critique request of one principle; the same in its preference
request; then back to the first. For each the plan is made before, and printed beside what was done, with the ratios of
tokens and wall time to the full run and the share of chains beside theory (docs/architecture.md). The exit code is 1 if
a run generates or trains what its plan did not allow, or if going back costs anything. ``CAI_`` settings apply.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg

from cai_assets.assets import needed
from cai_assets.constitution.diff import diff
from cai_assets.constitution.load import load_file
from cai_assets.constitution.model import Constitution
from cai_assets.defs.execute import materialize
from cai_assets.pipeline.project import Project
from cai_assets.plan.lines import UNLESS
from cai_assets.plan.plan import Plan, make_plan
from cai_assets.plan.touches import touches
from cai_assets.reports.summary import summary
from cai_assets.versions.snapshots import VERSIONS

CONSTITUTION = Path(__file__).parents[1] / "constitutions" / "harmlessness.yaml"
SUPERVISED = needed("sl_policy")
SMALLEST = {"prompts": {"red_team": 6, "helpful": 2, "eval_red_team": 2, "eval_helpful": 2}}
TRAINING = needed("rl_policy", "sft_baseline")


class Outcome(NamedTuple):
    """One run. ``planned``: the fewest and the most calls, by asset. ``chains``: touched, all, touched in theory."""

    name: str
    planned: dict[str, tuple[int, int]]
    generated: dict[str, int]
    trainings_planned: tuple[int, int]
    trained: list[str]
    tokens: int
    seconds: float
    chains: tuple[int, int, float] | None

    @property
    def kept(self) -> bool:
        """Whether no asset did more, or less, than its plan says."""
        low, high = self.trainings_planned
        return low <= len(self.trained) <= high and all(
            a <= self.generated.get(asset, 0) <= b for asset, (a, b) in self.planned.items())


def edited(before: Constitution, principle: str, field: str) -> Constitution:
    """One sentence more in one request of one principle."""
    found = before.principle(principle)
    text = f"{getattr(found, field)} Be exact."
    changed = [p.model_copy(update={field: text}) if p.id == principle else p for p in before.principles]
    return before.model_copy(update={"principles": tuple(changed)})


def run(settings: dict[str, Any], assets: tuple[str, ...], principle: str) -> Iterator[Outcome]:
    """The full run, both edits, and the way back."""
    first = load_file(CONSTITUTION)
    critique, preference = (edited(first, principle, f) for f in ("critique", "preference"))
    last = first
    for name, constitution in (("full", first), ("critique request edited", critique), ("back", first),
                               ("preference request edited", preference), ("back again", first)):
        yield _outcome(name, settings, assets, last, constitution)
        last = constitution


def _outcome(
    name: str, settings: dict[str, Any], assets: tuple[str, ...], last: Constitution, constitution: Constitution
) -> Outcome:
    key = Project.open(settings).snapshots.register(constitution)
    plan = make_plan(Project.open(settings), key)
    start = time.monotonic()
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, [key])
        if not materialize(instance, key, selection=assets, overrides=settings).success:
            raise SystemExit(f"{name}: the run failed, see above")
    seconds = time.monotonic() - start
    project = Project.open(settings)
    made = [line for line in summary(project, key) if line.asset in assets]
    lines = [x for x in plan.lines if x.asset in assets]
    trains = [x for x in lines if x.trains]
    return Outcome(
        name, {x.asset: (x.generate_min, x.generate_max) for x in lines if not x.training},
        {line.asset: line.generated for line in made if line.generated},
        (sum(x.training != UNLESS for x in trains), len(trains)),
        [line.asset for line in made if line.made == "trained"], sum(line.tokens for line in made), seconds,
        _chains(project, plan, key, last, constitution))


def _chains(
    project: Project, plan: Plan, key: str, last: Constitution, now: Constitution
) -> tuple[int, int, float] | None:
    """Chains with a new revision, all chains, and the share that theory expects."""
    if plan.compared_with is None or last == now:
        return None
    rounds = project.settings.critique.rounds
    theory = [t.chains or 0.0 for t in touches(diff(last, now), rounds=rounds) if t.asset == "revisions"]
    tables = [project.records.table(project.records.latest("revisions", v)) for v in (key, plan.compared_with)]
    new = tables[0].join(tables[1], on=["prompt_id", "round", "row_key"], how="anti")
    return new["prompt_id"].n_unique(), tables[0]["prompt_id"].n_unique(), theory[0] if theory else 0.0


def told(found: Outcome, full: Outcome) -> str:
    """Lines for a person."""
    low, high = (sum(n) for n in zip(*found.planned.values(), strict=True))
    chains = ""
    if found.chains and found.generated:
        chains = "; {} of {} chains touched, {:.1%} in theory".format(*found.chains)
    lines = [
        f"{found.name}: {found.seconds:.0f} s, {found.tokens} tokens; {found.seconds / full.seconds:.2f} and "
        f"{found.tokens / max(full.tokens, 1):.2f} of the full run{chains}",
        f"  calls: {sum(found.generated.values())}, planned {low} to {high}",
        *(f"    {asset}: {found.generated.get(asset, 0)}, planned {a} to {b}"
          for asset, (a, b) in found.planned.items() if b),
        "  training runs: {}, planned {} to {}".format(", ".join(found.trained) or "none", *found.trainings_planned),
    ]
    return "\n".join(lines + ([] if found.kept else ["  NOT AS PLANNED"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--principle", default="computer-misuse", help="its id")
    parser.add_argument("--supervised", action="store_true", help="only up to the SL policy")
    parser.add_argument("--smallest", action="store_true", help="as the tests run it: a few prompts")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    smaller = SMALLEST if arguments.smallest else {}
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as root:
        settings, assets = {**smaller, "data_root": root}, SUPERVISED if arguments.supervised else TRAINING
        for found in run(settings, assets, arguments.principle):
            outcomes.append(found)
            print(json.dumps(found._asdict()) if arguments.json else told(found, outcomes[0]), flush=True)
    free = all(not x.generated and not x.trained for x in outcomes if x.name.startswith("back"))
    return 0 if free and all(x.kept for x in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
