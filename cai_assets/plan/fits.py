"""What a version's trainings and engines need of memory, against what the machine has, before anything is spent."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, get_args

from cai_assets.engines.memory import capacity
from cai_assets.engines.model_shape import shape_of
from cai_assets.engines.models import ModelError, prepare
from cai_assets.engines.pool import resolve_backend
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import starting_policy
from cai_assets.plan.plan import Plan, make_plan
from cai_assets.plan.space import surely_trained
from cai_assets.plan.training import TrainingFit
from cai_assets.registry.engines import BACKENDS
from cai_assets.settings import Role, SettingsError
from cai_assets.train.choice import as_set, here, remedy
from cai_assets.train.choice import refuse_without_memory as refuse
from cai_assets.train.choice import said as chosen
from cai_assets.train.footprint import gb
from cai_assets.train.job import TrainingKind
from cai_assets.train.memory import Need, engine_need

UNSET = 0.9  # vLLM's own share of a GPU
KINDS: tuple[TrainingKind, ...] = get_args(TrainingKind)


class EngineFit(NamedTuple):
    """An engine that serves one model here."""

    need: Need
    room: int

    @property
    def fits(self) -> bool:
        return not self.room or self.need.total <= self.room


def engines(project: Project) -> dict[str, EngineFit]:
    """The engines in this process, by the model that they serve."""
    settings, found = project.settings, {}
    place = here(settings)
    share = (settings.engine.gpu_memory_utilization or UNSET) if place.device.accelerator else 1.0
    for role in get_args(Role):
        model = settings.models.role(role)
        if model.source in found or not BACKENDS[resolve_backend(model)].in_process:
            continue
        try:
            shape = shape_of(prepare(model, project.layout).path)
        except (ModelError, OSError, ValueError):  # which the run will say
            continue
        found[model.source] = EngineFit(engine_need(shape, settings.engine, place), int(share * capacity()))
    return found


def said(project: Project, plan: Plan) -> Iterator[str]:
    """A line for the largest training and the largest engine, and one for each that does not fit."""
    trainings = {line.asset: plan.fits[line.asset] for line in plan.lines if line.trains and line.asset in plan.fits}
    if trainings:
        yield from _largest(trainings)
        for asset, fit in trainings.items():
            if not fit.planned.fits:
                yield (f"{asset} needs about {gb(fit.planned.need.total)} and has {gb(fit.planned.room)}: it does not "
                       f"fit; {remedy(fit.better, fit.kind)}")
            elif fit.planned.changes:
                yield f"{asset} is trained with {chosen(fit.planned.changes, fit.kind)}, so that it fits (memory: auto)"
    for name, engine in engines(project).items():
        if not engine.fits:
            yield (f"the engine of {name} needs about {gb(engine.need.total)} ({engine.need}) and has "
                   f"{gb(engine.room)}: raise engine.tensor_parallel_size, or lower engine.max_model_len, or serve it "
                   f"elsewhere (models.*.base_urls)")


def refuse_without_memory(project: Project, version: str, assets: Collection[str] = ()) -> None:
    """Raise NoMemory if a training of a version's assets surely does not fit. Plans only where one might not."""
    try:
        base = starting_policy(project, None).path
        if all(as_set(base, project.settings, kind, base if kind == "reinforcement" else None).fits for kind in KINDS):
            return
    except (ModelError, SettingsError, OSError, ValueError):  # which the run will say
        return
    plan = make_plan(project, version)
    for line in plan.lines:
        if surely_trained(project, line) and (not assets or line.asset in assets):
            fit = plan.fits[line.asset]
            refuse(line.asset, fit.planned, fit.better, fit.kind)


def _largest(trainings: Mapping[str, TrainingFit]) -> Iterator[str]:
    asset, fit = max(trainings.items(), key=lambda item: item[1].planned.need.total)
    need, room = fit.planned.need, fit.planned.room
    of = f"of {gb(room)}" if room else "of memory that could not be told"
    yield f"Memory: at most about {gb(need.total)} {of} for a training process, in {asset} ({need})"
