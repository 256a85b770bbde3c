"""What the parts of a plan share: its lines, completers that only look keys up, and why a number is not nought."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from cai_assets.assets import ASSETS, HALVES, members
from cai_assets.constitution.derive import Derived
from cai_assets.constitution.digest import partition_key
from cai_assets.constitution.model import Constitution, Use
from cai_assets.engines.protocol import ModelIdentity
from cai_assets.pipeline.absent import absent
from cai_assets.pipeline.contents import Named, of_settings
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import round_before
from cai_assets.pipeline.spending import cost, gpus
from cai_assets.plan.causes import NEVER, row_causes, setting_changes
from cai_assets.plan.dry import PLANNED, DryCompleter, DryRun, Made
from cai_assets.plan.formats import format_change
from cai_assets.plan.rates import Rate, row_rate
from cai_assets.settings import Settings
from cai_assets.steps.why import as_asked
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, RecordMissing
from cai_assets.store.tables import Table
from cai_assets.versions.derived import Derivations
from cai_assets.versions.rounds import round_of
from cai_assets.versions.snapshots import Snapshots

REUSE, TRAIN, UNLESS = "reuse", "train", "train unless unchanged"
BOUNDS = "bounds: the rest depends on texts that do not exist yet"


@dataclass(frozen=True)
class Line:
    """One asset. ``generate_min`` calls are certain; up to ``generate_max`` are possible. Tokens, seconds and cost are
    for the most, at this store's own measured rates for these settings and sizes (mean, and the smallest and largest
    seen), or ``by_table`` of devices, None where neither says anything. ``memory``: bytes of a training process.

    ``taken``: a checkpoint that is a model taken as it is, and measured.

    ``causes``: of ``generate_max`` calls how many each cause explains. Together they explain all; where two apply to a
    call, it counts under both. Of a training, each reason to train counts 1.
    """

    asset: str
    reuse: int = 0
    generate_min: int = 0
    generate_max: int = 0
    training: str = ""  # REUSE, TRAIN or UNLESS; empty: not a checkpoint
    tokens: float | None = None
    seconds: float | None = None
    seconds_low: float | None = None
    seconds_high: float | None = None
    gpu_seconds: float | None = None
    cost_usd: float | None = None
    memory: int | None = None
    by_table: bool = False
    taken: bool = False
    causes: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    @property
    def trains(self) -> bool:
        """Whether it is a checkpoint that is, or may have to be, made: trained, or taken."""
        return self.training not in {"", REUSE}

    @property
    def learns(self) -> bool:
        """Whether it is a training that is, or may have to be, done."""
        return self.trains and not self.taken

    @property
    def doing(self) -> str:
        """``training`` in words: 'take' of a model that is not trained."""
        return self.training.replace(TRAIN, "take") if self.taken else self.training


def version_before(project: Project, version: str) -> str | None:
    """The newest materialized version of the same constitution, other than this one; for a later round its first round,
    and for a derived version the one that it comes from."""
    made = [r for half in HALVES for r in project.records.every(members(half)[0])
            if r.partition and r.partition != version]
    if origin := Derivations(project.layout).origin(version):
        return origin.version if any(r.partition == origin.version for r in made) else None
    if round_of(version).number > 1 and any(r.partition == round_of(version).version for r in made):
        return round_of(version).version
    name = project.snapshots.load(version).name
    same = [r for r in made if project.snapshots.load(str(r.partition)).name == name]
    newest = max(same, key=lambda r: r.created, default=None)
    return newest.partition if newest else None


class _Imagined(Snapshots):
    """The registered versions, and one that need not be."""

    def __init__(self, layout: Layout, constitution: Constitution) -> None:
        super().__init__(layout)
        self._key, self._constitution = partition_key(constitution), constitution

    def load(self, key: str) -> Constitution:
        """As if it were registered."""
        return self._constitution if key == self._key else super().load(key)


def imagining(project: Project, constitution: Constitution) -> Project:
    """The project as if a constitution were registered."""
    project = copy(project)
    project.snapshots = _Imagined(project.layout, constitution)
    return project


class Lines:
    """The lines of one version's plan so far, and the looking up that every part of the graph needs.

    ``derived``: made of ``version``, which need not be registered; it is planned in its place.
    """

    completer = DryCompleter

    def __init__(self, project: Project, version: str, derived: Derived | None = None) -> None:
        self.project, self.version = project, version
        self.before = version if derived else version_before(project, version)
        if derived:
            self.project, self.version = imagining(project, derived.constitution), derived.key
        self.settings = project.settings
        self.constitution = self.project.snapshots.load(self.version)
        self.absent = absent(self.constitution, self.settings, self.version)
        self.start = round_before(project, self.version)
        self.lines: list[Line] = []
        self.made = Made()
        self._changed: dict[str, list[str]] = {}

    def state(self, asset: str) -> str:
        """Whether the asset, a checkpoint whose line is there, is trained or reused."""
        return next(x.training for x in self.lines if x.asset == asset)

    def dry(self, identity: ModelIdentity) -> DryCompleter:
        """Looks up calls of a model."""
        return self.completer(identity, self.project.store, seed=self.settings.seed)

    def stage(self, **tables: Table) -> DryRun:
        """What the next stage is run with. ``tables``: read in place of those that were made."""
        return DryRun(self.project, self.version, self.constitution, self.start, self.made, self.dry, tables)

    def is_new(self, asset: str) -> bool:
        """Whether a training, whose line is there, is still to be made."""
        return asset not in self.absent and self.made.checkpoints[asset] is None

    def calls(self, asset: str, dries: Collection[DryCompleter], total: int, *, certain: bool = True,
              causes: Mapping[str, int] | None = None) -> None:
        """Add the line of an asset whose ``total`` calls were all looked up. What ``causes`` and changed settings leave
        unexplained was never generated before."""
        missing = sum(len(d.missing) for d in dries)
        self.line(asset, total - missing, missing if certain else 0, missing,
                  causes=self.with_changes(asset, missing, causes or {}))

    def with_changes(self, asset: str, possible: int, new: Mapping[str, int],
                     drawn: Mapping[str, int] | None = None) -> dict[str, int]:
        """``new``: calls that are missing because of what is new above. Changed settings explain the others; where none
        changed, the principles ``drawn`` do."""
        others = possible - sum(new.values())
        changes = dict.fromkeys(self.changes(asset), others) if others > 0 else {}
        return {**new, **(changes or drawn or {})}

    def line(self, asset: str, reuse: int, certain: int, possible: int, *, causes: Mapping[str, int],
             rest: str = NEVER) -> None:
        """Add a line; ``certain`` calls at least and ``possible`` ones at most. ``rest``: why there are more calls than
        ``causes`` explain."""
        unexplained = possible - sum(causes.values())
        causes = {**causes, rest: unexplained} if unexplained > 0 else causes
        columns = cost_of(self.settings, asset, row_rate(self.project, asset), possible)
        note = "" if certain == possible else BOUNDS
        self.lines.append(Line(asset, reuse, certain, possible, causes=causes if possible else {}, note=note,
                               **columns))

    def row_causes(self, asset: str, waiting: pl.DataFrame, use: Use) -> dict[str, int]:
        """Why these rows of an asset are missing: the settings that changed, and the principles they drew."""
        changes = self.changes(asset) if waiting.height else []
        before = self.constitution_before()
        return row_causes(waiting, changes, before and as_asked(before, self.settings),
                          as_asked(self.constitution, self.settings), use)

    def changes(self, asset: str) -> list[str]:
        """Settings that differ from those the asset was last made with, and the tables it reads that have no line."""
        if asset not in self._changed:
            earlier = self.earlier(asset)
            self._changed[asset] = self._changes_since(earlier) if earlier else []
        return self._changed[asset]

    def _changes_since(self, earlier: Record) -> list[str]:
        above = [name for name in ASSETS[earlier.asset].reads
                 if ASSETS[name].kind == "table" and not ASSETS[name].spends]
        return [*format_change(self.project, earlier), *setting_changes(earlier, *self._now),
                *(change for name in above for change in self.changes(name))]

    @cached_property
    def _now(self) -> Named:
        return of_settings(self.settings, self.project.layout)

    def constitution_before(self) -> Constitution | None:
        """The version that this one is compared with."""
        return self.project.snapshots.load(self.before) if self.before else None

    def earlier(self, asset: str) -> Record | None:
        """What to compare settings with: this version's newest record, or the version before's."""
        for partition in (None, self.version, self.before):
            try:
                return self.project.records.latest(asset, partition)
            except RecordMissing:
                continue
        return None


def planned(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows that wait for something not generated yet."""
    return frame.filter(waiting(frame.columns))


def waiting(columns: Collection[str]) -> pl.Expr:
    """Whether a row of these columns waits for something not generated yet."""
    return pl.any_horizontal(waits(column) for column in ("error", "reason_error") if column in columns)


def waits(column: str) -> pl.Expr:
    """Whether a column of errors says that something is not generated yet."""
    return pl.col(column).fill_null("").str.contains(PLANNED, literal=True)


def cost_of(settings: Settings, asset: str, rate: Rate, units: int) -> dict[str, Any]:
    """The columns of a line that say what ``units`` calls or trainings of an asset cost, None where it is not known."""

    def times(value: float | None) -> float | None:
        return 0.0 if units == 0 else None if value is None else value * units

    seconds = times(rate.seconds)
    gpu = None if seconds is None else seconds * gpus(settings, asset)
    tokens = times(rate.tokens)
    return {"tokens": tokens, "seconds": seconds, "seconds_low": times(rate.low),
            "seconds_high": times(rate.high), "gpu_seconds": gpu, "by_table": bool(seconds) and not rate.measured,
            "cost_usd": None if gpu is None else cost(settings, asset, gpu, times(rate.prompt) or 0.0, tokens or 0.0)}
