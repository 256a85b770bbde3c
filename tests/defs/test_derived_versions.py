"""Derived versions in Dagster: automation, the schedule and the comparison leave them alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cai_assets.constitution.derive import without
from cai_assets.constitution.load import load_file
from cai_assets.definitions import defs
from cai_assets.defs.automation import on_real_change, weekly
from cai_assets.defs.partitions import versions
from cai_assets.defs.version_conditions import OfDerivedVersion
from cai_assets.store.layout import Layout
from cai_assets.versions.derived import Derivations
from cai_assets.versions.snapshots import VERSIONS, Snapshots

SERVICE = load_file(Path(__file__).parents[2] / "constitutions" / "customer-service.yaml")


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path))
    return Layout(tmp_path)


@pytest.fixture
def version(layout: Layout) -> str:
    return Snapshots(layout).register(SERVICE)


def asked(assets: list[dg.AssetsDefinition], instance: dg.DagsterInstance, cursor: Any) -> tuple[set[str], Any]:
    """The partitions that automation asks for in one look."""
    result = dg.evaluate_automation_conditions(assets, instance=instance, cursor=cursor)
    keys = {str(p) for key in ("above", "policy") for p in result.get_requested_partitions(dg.AssetKey(key))}
    return keys, result.cursor


def test_automation_never_asks_for_a_derived_version(layout: Layout, version: str) -> None:
    prompts = ["one"]

    @dg.asset(automation_condition=on_real_change())
    def above() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(data_version=dg.DataVersion(prompts[0]))

    @dg.asset(deps=[above], partitions_def=versions, automation_condition=on_real_change())
    def policy() -> None:
        pass

    assets = [above, policy]
    derived = [Derivations(layout).register(version, without(SERVICE, p.id)) for p in SERVICE.principles]
    with dg.DagsterInstance.ephemeral() as instance:
        _, cursor = asked(assets, instance, None)
        dg.materialize([above], instance=instance)
        _, cursor = asked(assets, instance, cursor)
        instance.add_dynamic_partitions(VERSIONS, [version, *derived, f"{derived[0]}-r2"])
        found, cursor = asked(assets, instance, cursor)
        assert found == {version}
        for key in (version, derived[0]):
            dg.materialize(assets, selection=[policy], partition_key=key, instance=instance)
        found, cursor = asked(assets, instance, cursor)
        assert found == set()
        prompts[0] = "two"
        dg.materialize([above], instance=instance)
        assert asked(assets, instance, cursor)[0] == {version}


def test_every_automated_asset_of_a_version_has_that_condition() -> None:
    automated = [s for s in defs.resolve_all_asset_specs() if s.partitions_def and s.automation_condition]
    assert len(automated) >= 11
    for spec in automated:
        assert any(isinstance(part, OfDerivedVersion) for part in parts(spec.automation_condition)), spec.key


def parts(condition: Any) -> Iterator[Any]:
    yield condition
    for child in condition.children:
        yield from parts(child)


def test_the_weekly_schedule_leaves_derived_versions_and_their_rounds_out(layout: Layout, version: str) -> None:
    key = Derivations(layout).register(version, without(SERVICE, "hand-over"))
    Snapshots(layout).register_round(f"{key}-r2")
    with dg.DagsterInstance.local_temp() as instance:
        instance.add_dynamic_partitions(VERSIONS, [version, key, f"{key}-r2"])
        monday = datetime(2026, 11, 23, 3, tzinfo=UTC)
        requests = weekly(dg.build_schedule_context(instance=instance, scheduled_execution_time=monday))
    assert isinstance(requests, list)
    assert [r.partition_key for r in requests] == [version]
