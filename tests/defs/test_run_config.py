"""What only the user's own hand may set is refused in a run that Dagster was asked for, not in the command line's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cai_assets.defs.execute import materialize
from cai_assets.defs.jobs import jobs
from cai_assets.defs.location import defs
from cai_assets.defs.resources import NoValues
from cai_assets.settings import load_settings
from cai_assets.store.layout import Layout
from cai_assets.store.records import Records

FEW = {"prompts": {"red_team": 2, "helpful": 1, "eval_red_team": 1, "eval_helpful": 1}}


def asked_for(instance: dg.DagsterInstance, overrides: dict[str, Any], **tags: str) -> dg.ExecuteInProcessResult:
    """As a run worker executes what the launchpad or a GraphQL client asks for."""
    config = {"resources": {"project": {"config": {"overrides": overrides}}}}
    return defs.resolve_job_def("all").execute_in_process(
        instance=instance, run_config=config, raise_on_error=False, asset_selection=[dg.AssetKey("prompts")], tags=tags)


def why(result: dg.ExecuteInProcessResult) -> str:
    errors = [e.event_specific_data.error for e in result.all_events if e.is_failure and e.event_specific_data]
    return "\n".join(str(error.cause or error) for error in errors if error)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path / "own"))
    return tmp_path


def test_a_run_from_a_page_cannot_and_the_same_from_the_command_line_can(root: Path) -> None:
    elsewhere = {**FEW, "data_root": str(root / "elsewhere")}
    with dg.DagsterInstance.ephemeral() as instance:
        refused = asked_for(instance, elsewhere)
        assert not refused.success
        assert "run config: data_root is not for a run to choose" in why(refused)
        assert not (root / "elsewhere").exists()
        version = "any"
        instance.add_dynamic_partitions("constitution_version", [version])
        assert materialize(instance, version, selection=["prompts"], overrides=elsewhere).success
        assert Records(Layout(root / "elsewhere")).latest("prompts", None)
        (run,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
        config = run.run_config["resources"]["project"]["config"]["overrides"]
        assert config["data_root"] == elsewhere["data_root"]  # the UI shows what was run
        again = asked_for(instance, config, **run.tags)  # re-executed there
        assert "run config: data_root" in why(again)


def config_types(config_type: Any) -> Iterator[Any]:
    """A type of a run's config, and all that are in it."""
    yield config_type
    for field in getattr(config_type, "fields", {}).values():
        yield from config_types(field.config_type)
    for inner in ("inner_type", "scalar_type", "non_scalar_type", "key_type"):
        if hasattr(config_type, inner):
            yield from config_types(getattr(config_type, inner))


@pytest.mark.parametrize("job", [*(job.name for job in jobs), "__ASSET_JOB"])
def test_no_field_of_a_runs_config_is_read_from_a_variable_or_names_a_folder(job: str) -> None:
    schema = defs.resolve_job_def(job).run_config_schema.config_type
    found = list(config_types(schema))
    assert {"String", "Any", "Bool"} <= {t.key for t in found}
    assert [t.key for t in found if "Source" in t.key] == []
    resources = schema.fields["resources"].config_type.fields
    assert set(resources) == {"project", "io_manager"}
    assert resources["io_manager"].config_type.fields["config"].config_type.key == "Any"  # which nothing reads


def test_a_scale_that_is_none_is_named_and_no_variable_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    config = {"resources": {"project": {"config": {"scale": {"env": "SECRET"}, "overrides": FEW}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        refused = defs.resolve_job_def("all").execute_in_process(
            instance=instance, run_config=config, raise_on_error=False, asset_selection=[dg.AssetKey("prompts")])
    assert not refused.success
    assert "scale: {'env': 'SECRET'} is not one of smoke, small, full" in why(refused)
    assert "s3cret" not in str([e.event_specific_data for e in refused.all_events])


def test_what_is_allowed_runs_from_a_page(root: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert asked_for(instance, {**FEW, "seed": 3, "data_root": str(load_settings().data_root)}).success
    assert Records(Layout(root / "own")).latest("prompts", None)


def test_a_value_between_assets_is_refused_where_dagster_would_pickle_it() -> None:
    with pytest.raises(TypeError, match="'result' is returned as a value; write a table"):
        NoValues().handle_output(dg.build_output_context(name="result", step_key="x"), 1)
    with pytest.raises(TypeError, match="'prompts' is loaded as a value; read the table"):
        NoValues().load_input(dg.build_input_context(name="prompts"))
