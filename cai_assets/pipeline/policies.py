"""Who is evaluated, by name: one list for every asset that looks at finished policies, and for their plans.

``base``: the model that training begins with. ``base_again``: the same model and prompts with other samples, the row
that shows what sampling alone does. Then the trained policies, and ``evaluation.others`` by name: any model, such as
one trained by RLHF, on the same prompts and with the same sampling.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cai_assets.assets import AGAIN, BASE, TRAINED
from cai_assets.engines.models import ModelError
from cai_assets.engines.protocol import Engine
from cai_assets.pipeline.project import Project
from cai_assets.settings import Model, Settings
from cai_assets.store.checkpoints import Checkpoint


def policy_names(settings: Settings, absent: Collection[str] = ()) -> tuple[str, ...]:
    """Every policy in the order of tables, ``base`` first. ``absent``: what the version has none of (``absent.py``)."""
    again = (AGAIN,) if settings.evaluation.null else ()
    trained = (name for name in TRAINED if name not in absent)
    return (BASE, *again, *trained, *sorted(settings.evaluation.others))


def samples_of(settings: Settings, policy: str) -> range:
    """The sample indices of a policy's responses to one prompt; those of ``base_again`` are none of ``base``'s."""
    n = settings.evaluation.samples
    return range(n, 2 * n) if policy == AGAIN else range(n)


def open_policies(project: Project, trained: Mapping[str, Checkpoint]) -> dict[str, Engine]:
    """The engine of each policy, in the order of ``policy_names``; of TRAINED those that are given.

    Raise ModelError, naming the setting, for one of ``evaluation.others`` that cannot be used.
    """
    settings = project.settings
    base = project.engines.open(settings.models.role("policy"))
    found = dict.fromkeys((BASE, AGAIN), base)
    found |= {name: project.engines.open_checkpoint(c.path) for name, c in trained.items()}
    found |= {name: _other(project, name, model) for name, model in settings.evaluation.others.items()}
    return {name: found[name] for name in policy_names(settings) if name in found}


def by_engine(engines: Mapping[str, Engine], *, last: Engine) -> list[str]:
    """The policies' names in an order that opens each model once: those of one engine together, those of ``last`` last.

    ``last`` is the judge's: often it is the base model too, and then loaded when judging begins.
    """
    first = {id(engine): i for i, engine in reversed(list(enumerate(engines.values())))}
    return sorted(engines, key=lambda name: (engines[name] is last, first[id(engines[name])]))


def _other(project: Project, name: str, model: Model) -> Engine:
    try:
        return project.engines.open(model)
    except ModelError as e:
        raise ModelError(f"evaluation.others.{name}: {e}") from e
