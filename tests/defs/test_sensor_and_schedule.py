from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from cai_assets.defs.automation import register_constitutions, weekly
from cai_assets.store.layout import Layout
from cai_assets.versions.archive import Archive
from cai_assets.versions.snapshots import VERSIONS, Snapshots, UnknownVersion

TEXT = 'version: "{version}"\nprinciples:\n  - id: harm\n    critique: {critique}\n    revision: Remove harm.\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "constitutions").mkdir()
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("CAI_CONSTITUTIONS", str(tmp_path / "constitutions"))
    return tmp_path


def write(project: Path, name: str, version: str = "v1", critique: str = "Identify harm.", comment: str = "") -> None:
    (project / "constitutions" / f"{name}.yaml").write_text(comment + TEXT.format(version=version, critique=critique))


def tick(instance: dg.DagsterInstance) -> list[str]:
    result = register_constitutions(dg.build_sensor_context(instance=instance))
    if isinstance(result, dg.SkipReason):
        return []
    (request,) = result.dynamic_partitions_requests or []
    instance.add_dynamic_partitions(VERSIONS, list(request.partition_keys))
    return list(request.partition_keys)


def test_a_new_or_edited_file_is_a_new_version_and_a_comment_is_not(project: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        write(project, "mild")
        first = tick(instance)
        assert len(first) == 1
        assert first[0].startswith("mild-v1-")
        assert tick(instance) == []
        write(project, "mild", comment="# a remark\n")
        assert tick(instance) == []
        write(project, "mild", critique="Identify other harm.")
        assert len(tick(instance)) == 1


def test_a_broken_file_hides_no_other(project: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        write(project, "good")
        (project / "constitutions" / "bad.yaml").write_text("version: 1.10\n")
        assert [k.split("-")[0] for k in tick(instance)] == ["good"]


def test_a_version_stays_after_its_file_went(project: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        write(project, "gone")
        (key,) = tick(instance)
        (project / "constitutions" / "gone.yaml").unlink()
        snapshots = Snapshots(Layout(project / "data"))
        assert snapshots.load(key).principles[0].critique == "Identify harm."
        with pytest.raises(UnknownVersion, match=f"typed-by-hand.*Known: {key}.*cai register"):
            snapshots.load("typed-by-hand")
        with pytest.raises(UnknownVersion):
            snapshots.load("../../etc/passwd")


def test_the_weekly_schedule_asks_for_the_newest_version_of_each_constitution(project: Path) -> None:
    with dg.DagsterInstance.local_temp() as instance:
        for name, critique in (("a", "One."), ("b", "One."), ("a", "Two.")):
            write(project, name, critique=critique)
            tick(instance)
        keys = instance.get_dynamic_partitions(VERSIONS)
        monday = datetime(2026, 11, 23, 3, tzinfo=UTC)
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=monday)
        requests = weekly(context)
    assert isinstance(requests, list)
    assert sorted(str(r.partition_key) for r in requests) == sorted([keys[1], keys[2]])
    assert all(str(r.run_key).endswith(":2026-W48") for r in requests)
    assert all(r.run_config == {} for r in requests)


def test_archived_versions_are_left_out_and_fresh_samples_have_the_week_as_seed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_FRESH_WEEKLY", "true")
    with dg.DagsterInstance.local_temp() as instance:
        for name in ("a", "b"):
            write(project, name)
            tick(instance)
        first, second = instance.get_dynamic_partitions(VERSIONS)
        Archive(Layout(project / "data")).archive(first)
        monday = datetime(2026, 11, 23, 3, tzinfo=UTC)
        requests = weekly(dg.build_schedule_context(instance=instance, scheduled_execution_time=monday))
    assert isinstance(requests, list)
    (request,) = requests
    assert request.partition_key == second
    assert request.run_config["resources"]["project"]["config"]["overrides"] == {"seed": 202648}
