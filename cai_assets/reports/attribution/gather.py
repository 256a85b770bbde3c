"""Everything known about a version's principles: the derived versions, their states, and the effects.

Guarantees: reads records alone; spends and registers nothing; only derived versions that can be compared with the
whole one (``plan/attribution.py``) enter the effects, and every record that was read is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count, takewhile
from typing import Any, Literal, NamedTuple

import polars as pl

from cai_assets.constitution.derive import CannotDerive, DerivationKind, Derived, derive, without
from cai_assets.constitution.model import Constitution
from cai_assets.errors import CaiError
from cai_assets.evals.attribution import ALL, HEADLINE, POLICIES, Compared, Measured, effects, with_tests
from cai_assets.evals.statistics import Telling
from cai_assets.pipeline.absent import absent
from cai_assets.pipeline.project import Project
from cai_assets.plan.attribution import NOT_MADE, Share, critiques_of, standing, touched
from cai_assets.store.parquet import read_parquet
from cai_assets.store.records import Record
from cai_assets.versions.derived import Derivations
from cai_assets.versions.rounds import round_of

State = Literal["measured", "registered", "not registered", "cannot be made"]
KINDS: tuple[DerivationKind, ...] = ("without", "only", "again")  # in the order of the tables
READ = ("suite_results", "evaluation")


class NoEffects(CaiError, LookupError):
    """The version has no effects of principles. The message says why and what to do."""


@dataclass(frozen=True)
class Entry:
    """One derived version. ``why``: what it lacks; ``share``: what of the whole version's chains it touches."""

    kind: DerivationKind
    principle: str | None
    seed: int
    key: str | None
    state: State
    why: str = ""
    kept: tuple[str, ...] = ()
    share: Share | None = None


@dataclass(frozen=True)
class Attribution:
    """``effects``: a table of ``evals.attribution.EFFECTS``; ``records``: all that were read."""

    version: str
    entries: tuple[Entry, ...]
    effects: pl.DataFrame
    enough: int
    confidence: float
    source: str  # of response pairs, which decides what a changed SL policy makes new
    records: tuple[Record, ...]

    @property
    def telling(self) -> Telling:
        return Telling(self.confidence, self.enough)

    @cached_property
    def over_all_suites(self) -> dict[Cell, dict[str, Any]]:
        """The effects over all suites with ``tests``, how many effects each p value was adjusted for: once for all the
        cells of all the tables that ask for one."""
        rows = with_tests(self.effects).filter(suite=ALL).to_dicts()
        return {(r["kind"], r["principle"], r["seed"], r["policy"], r["measure"]): r for r in reversed(rows)}


class Loaded(NamedTuple):
    measured: Measured
    records: tuple[Record, ...]


Which = tuple[DerivationKind, str | None, int]  # kind, principle, seed
Cell = tuple[str, str | None, int, str, str]  # kind, principle, seed, policy, measure


def check_whole(project: Project, version: str) -> Constitution:
    """The constitution of a version whose principles can be looked at. Raise NoEffects, UnknownVersion."""
    constitution = project.snapshots.load(version)
    origin = Derivations(project.layout).origin(version)
    if origin is not None:
        raise NoEffects(f"{version} was itself derived from {origin.version}: look at {origin.version}")
    if round_of(version).number > 1:
        raise NoEffects(f"{version} is a later round: principles are compared in the first one, "
                            f"{round_of(version).version}")
    return constitution


def gather(project: Project, version: str) -> Attribution:
    """What is known of a version's principles. Raise NoEffects, UnknownVersion or RecordMissing."""
    c = check_whole(project, version)
    whole = _load(project, version)
    made = [] if "critiques" in absent(c) else [project.records.latest("critiques", version)]
    entries = tuple(_entries(project, version, c, critiques_of(project, version)))
    loaded = {(e.kind, e.principle, e.seed): _load(project, str(e.key)) for e in entries if e.state == "measured"}
    settings = project.settings
    records = [*made, *whole.records, *(r for x in loaded.values() for r in x.records)]
    effects = _effects(whole.measured, loaded, settings.evaluation.enough, settings.evaluation.confidence)
    return Attribution(version, entries, effects, settings.evaluation.enough, settings.evaluation.confidence,
                       settings.pairs.source, tuple(records))


def _entries(project: Project, version: str, c: Constitution, critiques: pl.DataFrame) -> Iterator[Entry]:
    """Each principle left out, then what else was registered: seeds, principles alone, the whole version again."""
    order: dict[str | None, int] = {p.id: i for i, p in enumerate(c.principles)}
    registered = [o for o in Derivations(project.layout).origins() if o.version == version]
    registered.sort(key=lambda o: (KINDS.index(o.kind), order.get(o.principle, 0), o.seed))
    for p in c.principles:
        try:
            yield _entry(project, version, without(c, p.id), critiques)
        except CannotDerive as e:
            yield Entry("without", p.id, 0, None, "cannot be made", str(e))
    for o in registered:
        if (o.kind, o.seed) != ("without", 0):
            yield _entry(project, version, derive(c, o.kind, o.principle, o.seed), critiques)


def _entry(project: Project, version: str, derived: Derived, critiques: pl.DataFrame) -> Entry:
    why = standing(project, version, derived)
    registered = derived.key in project.snapshots.known()
    state: State = "measured" if not why else "registered" if registered else "not registered"
    return Entry(derived.kind, derived.principle, derived.seed, derived.key, state,
                 "" if why == NOT_MADE and not registered else why, derived.kept,
                 touched(critiques, derived) if critiques.height else None)


def _load(project: Project, version: str) -> Loaded:
    records = tuple(project.records.latest(asset, version) for asset in READ)
    frames = [read_parquet(project.layout.absolute(str(r.details["rows"]))) for r in records]
    return Loaded(Measured(*frames), records)


def _effects(whole: Measured, loaded: Mapping[Which, Loaded], enough: int, confidence: float) -> pl.DataFrame:
    again = _seeds(loaded, "again", None, first=1)
    compared = []
    for kind, principle in dict.fromkeys((k, p) for k, p, _ in loaded if k != "again"):
        seeds = _seeds(loaded, kind, principle, first=0)[: 1 + len(again)]  # as often as the whole version
        compared += [Compared(kind, principle, seeds)] if seeds else []
    compared += [Compared("again", None, [x.measured], which[2]) for which, x in loaded.items() if which[0] == "again"]
    return effects([whole, *again], compared, enough=enough, confidence=confidence)


def _seeds(
    loaded: Mapping[Which, Loaded], kind: DerivationKind, principle: str | None, *, first: int
) -> list[Measured]:
    """What was measured with each seed from the first on, up to the first gap."""
    seeds = takewhile(lambda seed: (kind, principle, seed) in loaded, count(first))
    return [loaded[kind, principle, seed].measured for seed in seeds]


def effect_of(a: Attribution, entry: Entry, policy: str = POLICIES[0], measure: str = HEADLINE) -> dict[str, Any]:
    """The effect of an entry on one measure over all suites; empty if it is not measured."""
    seed = entry.seed if entry.kind == "again" else 0
    found = a.over_all_suites.get((entry.kind, entry.principle, seed, policy, measure))
    return found if found and entry.state == "measured" else {}
