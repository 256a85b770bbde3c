"""The training runs of a plan: whether the checkpoint already exists, and if not, what about it is new."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cai_assets.engines.weights import parameters
from cai_assets.pipeline.roles import starting_policy
from cai_assets.pipeline.trainings import Training
from cai_assets.plan.lines import REUSE, TRAIN, UNLESS, Line, Lines, cost_of
from cai_assets.plan.rates import Rate, training_rate
from cai_assets.settings import Settings
from cai_assets.train import identity
from cai_assets.train.choice import Fit, as_set, changed_by, fitting
from cai_assets.train.footprint import Footprint, footprint
from cai_assets.train.job import TrainingKind
from cai_assets.train.work import Amount, tokens_per_row, training_amount

PARTS = {"base": "the base model", "data": "the training data", "seed": "the seed", "code_version": "the training code",
         "rewards": "what the principles reward", "reward_package": "the package that gives the reward"}


class TrainingFit(NamedTuple):
    """A training against the machine's memory: as it will be done, and the first way in which it fits."""

    kind: TrainingKind
    planned: Fit
    better: Fit


def training_fit(base: Path, settings: Settings, kind: TrainingKind, grader: Path | None) -> TrainingFit:
    """Of a training from the model in a folder. Raise OSError or ValueError where that has no configuration."""
    better = fitting(base, settings, kind, grader)
    auto = getattr(settings, identity.TRAINING_GROUP[kind]).memory == "auto"
    return TrainingFit(kind, better if auto else as_set(base, settings, kind, grader), better)


class Trainings(Lines):
    """``parts``: of each checkpoint whose key is known, what its key is made of, by name. ``writes``, ``fits``: of each
    that is, or may have to be, trained, what it leaves on the disk and takes of memory."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.parts: dict[str, dict[str, Any]] = {}
        self.writes: dict[str, Footprint] = {}
        self.fits: dict[str, TrainingFit] = {}

    def training(
        self, training: Training, *, known: bool, rows_of: Sequence[str], after: Sequence[str] = (), waiting: int = 0
    ) -> None:
        """Add the line of a checkpoint, and note it if there is one.

        ``known``: the rows exist. ``rows_of``: the assets they come from. ``after``: checkpoints it starts from; if one
        is new for certain, so is this. ``waiting``: at most so many rows come in once something above is generated.
        """
        asset, found, damage = training.asset, None, None
        taken = identity.is_taken(self.settings, training.kind)
        above = {self.state(name) for name in after}
        known = (known and UNLESS not in above) or TRAIN in above
        if known and training.base is not None and above <= {REUSE}:
            parts = training.parts(self.settings)
            key = identity.training_key(training.kind, parts)
            found, damage = self.project.checkpoints.whole(asset, key), self.project.checkpoints.damage(asset, key)
            self.parts[asset] = parts
        self.made.checkpoints[asset] = found
        if not found:
            base = training.base or starting_policy(self.project, None)  # what is to be trained is as large
            self.writes[asset] = footprint(base.path, self.settings, training.kind)
            if not taken:
                self.fits[asset] = training_fit(base.path, self.settings, training.kind, training.grader(base.path))
        rate = Rate() if found else training_rate(self.project, asset, self._amount(training, waiting))
        reasons = [] if found else [damage] if damage else self._reasons(asset, [*after, *rows_of])
        self.lines.append(Line(
            asset, training=REUSE if found else TRAIN if known else UNLESS, causes=dict.fromkeys(reasons, 1),
            note="" if known else "its key is known once the upstream rows exist",
            memory=self.fits[asset].planned.need.total if asset in self.fits else None, taken=taken,
            **cost_of(self.settings, asset, rate, 0 if found else 1)))

    def _amount(self, training: Training, waiting: int) -> Amount:
        """What the training computes, with the settings with which it is done."""
        base = training.base or starting_policy(self.project, None)
        name = identity.TRAINING_GROUP[training.kind]
        fit = self.fits.get(training.asset)
        group = changed_by(getattr(self.settings, name), fit.planned.changes if fit else {})
        data = training.data
        by = data["principle"].n_unique() if "principle" in data.columns else 0
        return training_amount(parameters(base.path), group, training.kind, data.height + waiting,
                               tokens_per_row(data, group), by)

    def _reasons(self, asset: str, above: Sequence[str]) -> list[str]:
        """Why it is or may be trained: settings and assets above that are new, else what differs from the last one."""
        lines = {x.asset: x for x in self.lines}
        new = [f"{name} is new" if lines[name].training else f"{name}: up to {lines[name].generate_max} rows are new"
               for name in above if name in lines and (lines[name].generate_max or lines[name].trains)]
        return [*self.changes(asset), *new] or self._differences(asset)

    def _differences(self, asset: str) -> list[str]:
        record = self.earlier(asset)
        if record is None:
            return ["never trained before"]
        last = self.project.checkpoints.find(asset, record.digest)
        if last is None or asset not in self.parts:
            return [f"the checkpoint of {record.ref.id} is gone"]
        differ = [name for part, name in PARTS.items() if last.record.get(part) != self.parts[asset].get(part)]
        return [f"{name} differs from {record.ref.id}'s" for name in differ] or ["never trained with these inputs and "
                                                                                 "settings"]
