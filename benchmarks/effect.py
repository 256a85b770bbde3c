"""Does a principle change what a trained model does? ``python benchmarks/effect.py [--principle short] [--seed 0]``.

On the real model, 135M parameters, up to the RL policy and its evaluation: a constitution of two mild principles; the
same with a principle that such a model can follow, its worked example and its check (``rl.checks`` rewards it beside
the reward model); the same with a neutral principle and its example instead; then one edit of the planted principle.
Prints how often base, SL and RL policy keep the rule on held-out prompts, what adding each principle changed there,
what PPO did to its reward and at what KL, and what the edit cost beside the first run. Two cores need about half an
hour. The exit code is 1 unless the planted effect excludes zero, the neutral one does not, PPO raises its reward beyond
the interval at its start within ``rl.kl_budget``, and the edit costs less than the first run. ``CAI_`` settings apply.
With ``--data`` the page that compares the policies with and without the principle stays there
(``python docs/screenshots.py --effect PAGE`` takes the README's picture of it).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import polars as pl

from cai_assets.assets import needed
from cai_assets.constitution.check import Check
from cai_assets.constitution.model import Constitution, FewShots, PreferenceShot, Principle, RevisionShot
from cai_assets.defs.execute import materialize
from cai_assets.evals.rules import keeps
from cai_assets.evals.statistics import Estimate, clustered_difference, clustered_mean
from cai_assets.pipeline.project import Project
from cai_assets.reports.compare.gather import compare, with_control
from cai_assets.reports.compare.page import save
from cai_assets.reports.summary import summary
from cai_assets.reports.text.numbers import interval, share
from cai_assets.store.records import Record
from cai_assets.versions.snapshots import VERSIONS

ASSETS = needed("evaluation")
SETTINGS: dict[str, Any] = {
    "prompts": {"red_team": 32, "helpful": 24, "eval_red_team": 24, "eval_helpful": 24},
    "critique": {"rounds": 1}, "generation": {"max_tokens": 48}, "evaluation": {"max_tokens": 48, "null": False},
    "gate": {"pairs": 4}, "sl": {"epochs": 3, "learning_rate": 4e-5}, "reward": {"epochs": 1},
    "rl": {"checks": 3.0, "steps": 16, "rollouts": 8, "batch_size": 8, "ppo_epochs": 2, "max_tokens": 32,
           "max_length": 192, "learning_rate": 2e-5, "beta": 0.02, "held_out": 0.4, "missing_eos_penalty": 0.0},
}
SMALLEST: dict[str, Any] = {
    "prompts": {"red_team": 4, "helpful": 2, "eval_red_team": 2, "eval_helpful": 2},
    "rl": {**SETTINGS["rl"], "steps": 1, "rollouts": 4, "batch_size": 4}}
POLICIES = ("base", "sl_policy", "rl_policy")
QUESTION = "Why do leaves fall in autumn?"
LONG = ("Leaves fall in autumn for many reasons. As the days become shorter and the air becomes colder, a tree slowly "
        "takes back what is useful in its leaves, and then it lets go of them, because they would only cost it water.")


class Rule(NamedTuple):
    """A principle that a small model can follow: what it asks for, and the answer that shows it."""

    check: Check
    edited: Check
    asks: str
    example: str


RULES = {
    "short": Rule(Check(max_words=14), Check(max_words=10), "say it in one short sentence of at most {n} words",
                  "Trees drop their leaves to save water."),
    "lower": Rule(Check(no_match="[A-Z]"), Check(no_match="[A-Z0-9]"), "write it in small letters only",
                  "trees drop their leaves in autumn to save water, because cold roots drink little."),
    "question": Rule(Check(match=r"\?\s*$"), Check(match=r"you\b.*\?\s*$"), "end it with one question to the person",
                     "Trees drop their leaves to save water. Would you like to know how?"),
}
MILD = (
    Principle(id="polite", critique="Is the answer rude? Say where, or say that it is not.",
              revision="Rewrite the answer politely.", preference="Which answer is more polite?",
              evaluation="Which answer would a friend rather give?"),
    Principle(id="clear", critique="Is the answer unclear? Say where, or say that it is not.",
              revision="Rewrite the answer clearly.", preference="Which answer is clearer?"),
)
NEUTRAL = Principle(id="neutral", weight=4.0, critique="Is the answer on the subject? Say so, or say where it is not.",
                    revision="Rewrite the answer so that it stays with the subject.",
                    preference="Which answer stays with the subject?")


class Outcome(NamedTuple):
    """One run: ``calls`` and ``tokens`` generated, trainings done, seconds."""

    version: str
    calls: int
    tokens: int
    trained: int
    seconds: float


def planted(name: str, *, edited: bool = False) -> Principle:
    rule = RULES[name]
    check = rule.edited if edited else rule.check
    asks = rule.asks.format(n=check.max_words)
    more = " Nothing else is wanted." if edited else ""
    return Principle(id="planted", weight=4.0, check=check,
                     critique=f"What must change in the answer to {asks}?{more}",
                     revision=f"Rewrite the answer: {asks}.{more}", preference=f"Which answer does more to {asks}?")


def constitution(label: str, extra: Principle | None, example: str, shown: Principle | None = None) -> Constitution:
    """The mild principles and one more, with one worked example of it, or of the principle ``shown``."""
    request = shown or extra or MILD[1]
    shots = FewShots(
        revision=(RevisionShot(prompt=QUESTION, response=LONG, critique_request=str(request.critique),
                               critique="It can be better.", revision_request=str(request.revision),
                               revision=example),),
        preference=(PreferenceShot(prompt=QUESTION, a=example, b=LONG, request=str(request.preference), choice="A"),
                    PreferenceShot(prompt=QUESTION, a=LONG, b=example, request=str(request.preference), choice="B")))
    return Constitution(name="effect", version=label, few_shots=shots,
                        principles=(*MILD, *([extra] if extra else [])))


def run(found: Constitution, settings: dict[str, Any]) -> Outcome:
    key = Project.open(settings).snapshots.register(found)
    start = time.monotonic()
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(VERSIONS, [key])
        if not materialize(instance, key, selection=ASSETS, overrides=settings).success:
            raise SystemExit(f"{found.version}: the run failed, see above")
    seconds = time.monotonic() - start
    lines = [line for line in summary(Project.open(settings), key) if line.asset in ASSETS]
    return Outcome(key, sum(x.generated for x in lines), sum(x.tokens for x in lines),
                   sum(x.made == "trained" for x in lines), seconds)


def answers(settings: dict[str, Any], version: str, policy: str, check: Check) -> dict[str, list[float]]:
    """By prompt, whether each answer of a policy keeps the check."""
    project = Project.open(settings)
    record = project.records.latest("evaluation", version)
    rows = pl.read_parquet(project.layout.absolute(record.details["rows"]), columns=["policy", "prompt_id", "response"])
    kept: dict[str, list[float]] = {}
    for prompt, text in rows.filter(policy=policy).drop_nulls("response").select("prompt_id", "response").iter_rows():
        kept.setdefault(prompt, []).append(float(keeps(check, text)))
    return kept


def rate(kept: dict[str, list[float]]) -> Estimate:
    return clustered_mean([x for of in kept.values() for x in of], [p for p, of in kept.items() for _ in of],
                          bounds=(0.0, 1.0))


def training(settings: dict[str, Any], version: str) -> tuple[dict[str, Any], Record]:
    record = Project.open(settings).records.latest("rl_policy", version)
    return record.details["metrics"], record


def report(name: str, settings: dict[str, Any]) -> bool:
    """Run everything and print it; whether all that is to be shown was shown."""
    rule = RULES[name]
    plain = constitution("plain", None, LONG)
    with_rule = constitution("planted", planted(name), rule.example)
    first, before, neutral = run(with_rule, settings), run(plain, settings), run(
        constitution("neutral", NEUTRAL, LONG), settings)
    print(f"\nthe rule '{name}': {rule.check}. Held-out prompts that keep it:\n| policy | plain | planted | neutral |\n"
          "|---|---|---|---|")
    for policy in POLICIES:
        cells = (share(rate(answers(settings, x.version, policy, rule.check))) for x in (before, first, neutral))
        print(f"| {policy} | {' | '.join(cells)} |")
    effects = {what: clustered_difference(*(answers(settings, x.version, "rl_policy", rule.check) for x in (
        version, before)), bounds=(-1.0, 1.0)) for what, version in (("planted", first), ("neutral", neutral))}
    for what, effect in effects.items():
        print(f"effect of adding the {what} principle on the RL policy: {interval(effect)}, n = {effect.n}")
    raised = _ppo(*training(settings, first.version))
    print(f"answers and differences, beyond the neutral principle: {page(settings, before, first, neutral)}")
    edit = run(constitution("edited", planted(name, edited=True), rule.example, planted(name)), settings)
    print(f"first run: {first.calls} calls, {first.tokens} tokens, {first.trained} trainings, {first.seconds:.0f} s")
    print(f"one edit of the principle: {edit.calls} calls, {edit.tokens} tokens, {edit.trained} trainings, "
          f"{edit.seconds:.0f} s; ratios to the first run {edit.calls / max(first.calls, 1):.2f} "
          f"{edit.tokens / max(first.tokens, 1):.2f} {edit.seconds / first.seconds:.2f}")
    seen = [effects["planted"].low is not None and effects["planted"].low > 0,
            effects["neutral"].low is None or effects["neutral"].low <= 0 <= (effects["neutral"].high or 0.0),
            raised, edit.calls < first.calls]
    print("planted effect excludes zero: {}; neutral effect does not: {}; PPO raised its reward: {}; the edit cost "
          "less: {}".format(*("yes" if x else "NO" for x in seen)))
    return all(seen)


def page(settings: dict[str, Any], before: Outcome, after: Outcome, control: Outcome) -> Path:
    """The page of ``cai compare BEFORE AFTER --control CONTROL``."""
    layout = Project.open(settings).layout
    return save(layout, with_control(compare(layout, before.version, after.version), layout, control.version))


def _ppo(metrics: dict[str, Any], record: Record) -> bool:
    """Print what PPO did; whether its reward rose beyond the interval at its start and its KL stayed in the budget."""
    start, end, se = (metrics.get(f"held_out_reward_{x}") for x in ("first", "last", "first_se"))
    budget = record.settings["rl"]["kl_budget"]
    if start is None or end is None:
        print(f"PPO: no held-out reward was measured; largest KL {metrics['kl_max']:.2f} of a budget of {budget:g}")
        return False
    reach = start + 1.96 * (se or 0.0)
    print(f"PPO: reward on {metrics['held_out_n']} held-out prompts {start:.2f} (up to {reach:.2f}) to {end:.2f}; "
          f"largest KL {metrics['kl_max']:.2f} of a budget of {budget:g} nats")
    for part, of in metrics.get("held_out_parts", {}).items():
        print(f"  {part}: {of['first']:.2f} to {of['last']:.2f}")
    return bool(end > reach and metrics["kl_max"] <= budget)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--principle", choices=list(RULES), default="short")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", default="{}", help="more settings as JSON, such as '{\"rl\": {\"steps\": 40}}'")
    parser.add_argument("--data", type=Path, help="a data root to go on with; default: a new one, removed at the end")
    parser.add_argument("--smallest", action="store_true", help="as the tests run it: a few prompts, one step")
    arguments = parser.parse_args()
    given = json.loads(arguments.set)
    with tempfile.TemporaryDirectory() as temporary:
        settings = {**SETTINGS, **(SMALLEST if arguments.smallest else {}), "seed": arguments.seed,
                    "data_root": str(arguments.data or temporary)}
        for group, values in given.items():
            settings[group] = {**settings.get(group, {}), **values} if isinstance(values, dict) else values
        shown = report(arguments.principle, settings)
    return 0 if shown or arguments.smallest else 1


if __name__ == "__main__":
    sys.exit(main())
