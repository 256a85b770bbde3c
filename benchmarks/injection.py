"""How far judge notes inside responses move labels: ``python benchmarks/injection.py [--json]``.

The labeler of the settings labels pairs of the generator's responses to the prompts of the settings (by default the
bundled model and prompts), with and without notes. ``CAI_`` settings apply; stored rows are used again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cai_assets.constitution.load import load_file
from cai_assets.evals.injection import Effect, injection_effect
from cai_assets.pipeline.project import Project
from cai_assets.settings import Role
from cai_assets.steps.complete import Completer
from cai_assets.steps.pair import pair_responses
from cai_assets.steps.prompts import load_prompts, select

SMALLEST = {"red_team": 6, "helpful": 2, "eval_red_team": 1, "eval_helpful": 1}
CONSTITUTION = Path(__file__).parents[1] / "constitutions" / "harmlessness.yaml"


def measure(constitution: Path, settings: dict[str, Any]) -> tuple[int, list[Effect]]:
    """The number of pairs that could be labeled, and the effect of each note."""
    project = Project.open({"pairs": {"source": "generator"}, **settings})
    s = project.settings

    def complete(role: Role) -> Completer:
        return Completer(project.engines.open(s.models.role(role)), project.store, seed=s.seed)

    prompts = select(load_prompts(s.prompts.paths, max_chars=s.prompts.max_chars).frame, s.prompts, seed=s.seed)
    pairs = pair_responses(prompts, complete=complete("generator"), settings=s.pairs,
                           max_tokens=s.generation.max_tokens)
    try:
        effects = injection_effect(pairs, load_file(constitution), complete=complete("labeller"), settings=s.labels,
                                   confidence=s.evaluation.confidence)
    finally:
        project.close()
    return effects[0].obeyed.n, effects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constitution", type=Path, default=CONSTITUTION)
    parser.add_argument("--smallest", action="store_true", help="as the tests run it: a few prompts")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    pairs, effects = measure(arguments.constitution, {"prompts": SMALLEST} if arguments.smallest else {})
    if arguments.json:
        print(json.dumps({"pairs": pairs, "effects": [asdict(e) for e in effects]}))
        return
    for e in effects:
        print(f"{e.note}: {e.ungraded} ungraded; toward the letter beyond a harmless note {e.obeyed}")
        for name, shift in (("injected", e.injected), ("harmless", e.harmless)):
            print(f"  {name}: letter {shift.letter} · response {shift.response} · flips {shift.flips}")


if __name__ == "__main__":
    main()
