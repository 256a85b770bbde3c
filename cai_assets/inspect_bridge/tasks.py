"""Suites as tasks: ``inspect eval cai_assets/suite -T name=jailbreak --model cai/rl_policy@VERSION``.

A task asks what ``suite_results`` asks, with the same sampling, so on the same checkpoint every row is the same row.
"""

from __future__ import annotations

from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.model import GenerateConfig, ModelOutput, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver

from cai_assets.assets import BASE
from cai_assets.evals.suites.ability import ability_calls
from cai_assets.evals.suites.model import LETTERS
from cai_assets.inspect_bridge.cases import LETTERS_READ, case_of, samples_of
from cai_assets.inspect_bridge.rows import opened, trained_prompts
from cai_assets.inspect_bridge.scorers import scored, scorers_on
from cai_assets.pipeline import evaluation
from cai_assets.pipeline.policies import samples_of as sample_indices
from cai_assets.settings import Settings


@task
def suite(name: str, version: str | None = None, policy: str = BASE, settings: dict[str, Any] | None = None) -> Task:
    """One suite, its modes together.

    ``version``: cases near its training prompts are left out. ``policy``: 'base_again' takes different samples.
    ``settings``: as for ``--set``. Raise SuitesError for a suite that cannot be used.
    """
    project, _ = opened(settings or {})
    wanted = _wanted(project.settings, name)
    cases = evaluation.suite_cases(wanted, trained_prompts(project, version))
    (chosen,) = cases.suites
    counts = cases.drawn.counts[chosen.name]
    samples = list(samples_of(cases.drawn.items, sample_indices(wanted, policy),
                              confidence=wanted.evaluation.confidence))
    g = wanted.generation
    ability = chosen.kind == "ability"
    return Task(
        dataset=MemoryDataset(samples, name=chosen.name), solver=letters() if ability else answer(),
        scorer=scorers_on(chosen.kind, wanted.labels.style),
        config=GenerateConfig(temperature=g.temperature, top_p=g.top_p, max_tokens=wanted.evaluation.max_tokens),
        name=chosen.name, fail_on_error=False,
        model_roles={"grader": get_model("cai/judge", memoize=False, settings=settings or {})},
        metadata={"kind": chosen.kind, "digest": chosen.digest, "in_training": counts.in_training, **(
            {"version": version} if version else {})})


def _wanted(settings: Settings, name: str) -> Settings:
    evaluation = settings.evaluation.model_copy(update={"suites": (name,)})
    return settings.model_copy(update={"evaluation": evaluation})


@solver
def answer() -> Solver:
    """The policy answers; the sample's index is passed as the seed."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        return await generate(state, seed=state.metadata["sample"])

    return solve


@solver
def letters() -> Solver:
    """The policy's probability of each letter, for each rotation of the choices."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        case, model = case_of(state.metadata), get_model()
        calls = ability_calls(case, [{"role": m.role, "content": m.text} for m in state.messages])
        rows = [await scored(model, call) for call in calls]
        state.metadata[LETTERS_READ] = [row._asdict() for row in rows]
        best = max(zip(rows[0].logprobs, LETTERS, strict=False), default=(0.0, ""))[1]
        state.output = ModelOutput.from_content(str(model), best)
        return state

    return solve
