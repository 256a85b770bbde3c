"""Every asset is declared once, as it is: what a declaration forgets, or says and is not so, has a name here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docs_scripts import DOCS, script
from histories import History, copy_instead_of_training, latest
from tiny_models import tiny_model

from cai_assets.assets import (
    ASSETS,
    CALLED,
    CHECKPOINTS,
    COMPARABLE,
    EVERY,
    GRAPH,
    OPTIONAL,
    ORDER,
    SPENDING,
    WITHOUT_VERSION,
    Asset,
    needed,
    upstream,
)
from cai_assets.definitions import defs
from cai_assets.defs import launch
from cai_assets.evals import judge, rubric, screen
from cai_assets.lineage.trace import tables_of, tree
from cai_assets.plan.plan import make_plan
from cai_assets.reports.compare.sides import side
from cai_assets.reports.summary import summary
from cai_assets.settings import Settings
from cai_assets.steps import (
    critique,
    documents,
    in_context,
    label,
    reason,
    respond,
    thought,
    tradeoff,
    verdict,
    write,
)
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record

SPECS = {s.key.to_user_string(): s for s in defs.resolve_all_asset_specs()}
STEPS = {s.name for s in (respond.RESPOND, critique.CRITIQUE, critique.REVISION, verdict.VERDICT, thought.THOUGHT,
                          label.LABEL, judge.STEP, reason.REASON, write.WRITE, screen.SCREEN,
                          in_context.IN_CONTEXT, documents.WRITE,
                          tradeoff.TRADEOFF, tradeoff.PARAPHRASE, rubric.RUBRIC)}
NOT_ASKED_FOR = {"written_prompts", *OPTIONAL}  # none are written by default, so nothing reads them
every = pytest.mark.parametrize("asset", EVERY, ids=lambda a: a.name)
by_default = pytest.mark.parametrize("asset", GRAPH, ids=lambda a: a.name)


class Ran:
    """One version, planned and then made from nothing."""

    def __init__(self, history: History) -> None:
        self.data = history.root / "data"
        project = history.project(self.data)
        version = project.snapshots.register(history.constitution)
        self.planned = [line.asset for line in make_plan(project, version).lines]
        ok, self.version = history.run(self.data)
        assert ok
        self.project = history.project(self.data)

    def record(self, asset: str) -> Record:
        return latest(self.data, asset, self.version)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    root = tmp_path_factory.mktemp("declared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_run", copy_instead_of_training)
        yield Ran(History(root, tiny_model(root / "tiny")))


def test_what_dagster_makes_is_what_is_declared() -> None:
    made = {key.to_user_string() for key in defs.resolve_asset_graph().materializable_asset_keys}
    assert made - set(ASSETS) == set(), "not declared in assets.py"
    assert set(ASSETS) - made == set(), "no @dg.asset, or none that definitions.py lists"


@every
def test_dagster_has_exactly_the_declared_edges(asset: Asset) -> None:
    spec, order = SPECS[asset.name], list(ASSETS)
    assert {d.asset_key.to_user_string() for d in spec.deps} == set(asset.reads)
    assert (spec.group_name, spec.partitions_def is not None) == (asset.group, asset.versioned)
    assert all(order.index(above) < order.index(asset.name) for above in asset.reads), "declared above what it reads"


@every
def test_a_declaration_names_what_there_is(asset: Asset) -> None:
    assert set(asset.steps) <= STEPS
    assert set(asset.settings) <= set(Settings.model_fields)
    assert asset.about[:1].isupper()
    assert asset.about.endswith(".")
    assert not asset.policy or asset.kind == "training"


@every
def test_what_is_trained_on_says_what_its_rows_are(asset: Asset) -> None:
    if asset.kind == "table" and asset.name in needed(*CHECKPOINTS):
        assert asset.rows, f"{asset.name} would have no rows in 'cai trace'"


def test_what_spends_is_planned(ran: Ran) -> None:
    assert set(ran.planned) == set(SPENDING)


@by_default
def test_what_does_not_spend_makes_no_call_and_trains_nothing(ran: Ran, asset: Asset) -> None:
    record = ran.record(asset.name)
    assert ("reused_checkpoint" in record.details) == (asset.kind == "training")
    assert asset.steps or record.reused + record.generated + record.failed == 0


@by_default
def test_a_record_reads_what_is_declared_above_it_and_keeps_the_declared_settings(ran: Ran, asset: Asset) -> None:
    record = ran.record(asset.name)
    assert {ref.asset for ref in record.inputs} <= upstream(asset.name)
    assert set(record.settings) <= set(asset.settings)
    assert record.partition is None if asset.name in WITHOUT_VERSION else record.partition == ran.version


@by_default
def test_the_declared_rows_are_in_the_table(ran: Ran, asset: Asset) -> None:
    columns = ran.project.records.table(ran.record(asset.name)).columns if asset.rows else []
    for shape in asset.rows:
        wanted = {shape.id, shape.text, *shape.keys, *([asset.row, asset.key] if asset.name in CALLED else [])}
        optional = {"row_keys"}  # in tables of several calls a row
        assert wanted - optional <= {None, *columns}
        assert not shape.parents or set(shape.parents) & set(columns)


def test_what_nobody_asked_for_has_no_record(ran: Ran) -> None:
    assert not set(OPTIONAL) & set(ORDER)
    assert [name for name in OPTIONAL if ran.project.records.every(name)] == []


def test_every_asset_is_summed_up_compared_and_traced(ran: Ran) -> None:
    assert [line.asset for line in summary(ran.project, ran.version)] == list(ORDER)
    assert set(side(Layout(ran.data), ran.version).records) == set(COMPARABLE) - NOT_ASKED_FOR
    above = tree(ran.project.layout, ran.record("rl_policy"))
    made = set(needed("rl_policy")) - NOT_ASKED_FOR
    assert {r.asset for r in above.values()} == made
    traced = {t.asset for t in tables_of(ran.project.layout, above.values())}
    assert traced == {name for name in made if ASSETS[name].rows} | {"training_rows"}


@pytest.mark.parametrize("file", ["docs/start.md", "docs/architecture.md"])
def test_the_drawings_of_the_graph_are_current(file: str) -> None:
    path = DOCS.parent / file
    assert path.read_text(encoding="utf-8") == script("graph").drawn(path), "run python docs/graph.py"
