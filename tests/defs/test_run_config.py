"""What only the user's own hand may set is refused in a run that Dagster was asked for, not in the command line's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cai_assets.defs.execute import materialize
from cai_assets.defs.jobs import jobs
from cai_assets.defs.launchpad import fits
from cai_assets.defs.location import defs
from cai_assets.defs.resources import NoValues
from cai_assets.settings import load_settings
from cai_assets.settings.by_hand import kept
from cai_assets.settings.described import described
from cai_assets.settings.load import put
from cai_assets.settings.run_config import by_own_hand
from cai_assets.store.layout import Layout
from cai_assets.store.records import Records

FEW = {"prompts": {"red_team": 2, "helpful": 1, "eval_red_team": 1, "eval_helpful": 1}}


def asked_for(instance: dg.DagsterInstance, config: dict[str, Any], **tags: str) -> dg.ExecuteInProcessResult:
    """As a run worker executes what the launchpad or a GraphQL client asks for."""
    return defs.resolve_job_def("all").execute_in_process(
        instance=instance, run_config={"resources": {"project": {"config": config}}}, raise_on_error=False,
        asset_selection=[dg.AssetKey("prompts")], tags=tags)


def why(result: dg.ExecuteInProcessResult) -> str:
    errors = [e.event_specific_data.error for e in result.all_events if e.is_failure and e.event_specific_data]
    return "\n".join(str(error.cause or error) for error in errors if error)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAI_DATA_ROOT", str(tmp_path / "own"))
    return tmp_path


def refused(config: dict[str, Any]) -> str:
    """What the launchpad says of a config, before any run."""
    with pytest.raises(dg.DagsterInvalidConfigError) as problem:
        dg.validate_run_config(defs.resolve_job_def("all"), {"resources": {"project": {"config": config}}})
    return str(problem.value)


@pytest.mark.parametrize(("config", "words"), [
    ({"overrides": {"rl": {"betta": 0.1}}}, 'unexpected config entry "betta"'),
    ({"overrides": {"rl": {"beta": "much"}}}, 'not valid for expected type "Float"'),
    ({"overrides": {"rl": {"kl_in": "los"}}}, "kl_in"),
    ({"scale": "tiny"}, "scale"),
    ({"scale": {"env": "SECRET"}}, "scale"),
    ({"overrides": {"data_root": "elsewhere"}}, 'unexpected config entry "data_root"'),
    ({"overrides": {"servers": {}}}, 'unexpected config entry "servers"'),
])
def test_the_launchpad_knows_what_is_wrong_before_a_run(config: dict[str, Any], words: str) -> None:
    assert words in refused(config)


def test_the_launchpad_knows_every_setting_that_a_run_may_choose_and_what_it_is(root: Path) -> None:
    config = defs.resolve_job_def("all").run_config_schema.config_type.fields["resources"].config_type
    fields = config.fields["project"].config_type.fields["config"].config_type.fields["overrides"].config_type.fields
    assert set(fields) == {s.name for s in described() if "." not in s.name and not s.own_hand} - {"scale"}
    assert fields["rl"].config_type.fields["beta"].description == "Weight of the KL penalty to the SL policy."


def test_what_was_typed_is_kept_if_a_run_may_have_it_and_else_its_digest(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = {"source": "m", "base_urls": ["http://127.0.0.1:9/v1"], "api_key_env": "THEIR_KEY"}
    typed = {**FEW, "seed": 3, "critique": {"rounds": 2.0}, "data_root": str(root / "elsewhere"),
             "models": {"critic": server}}
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("constitution_version", ["any"])
        assert materialize(instance, "any", selection=["prompts"], overrides=typed).success
        assert Records(Layout(root / "elsewhere")).latest("prompts", None)
        (run,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
        config = run.run_config["resources"]["project"]["config"]
        assert config["overrides"] == {**FEW, "seed": 3, "critique": {"rounds": 2}}
        assert set(config["by_hand"]) == {"data_root", *(f"models.critic.{name}" for name in server)}
        assert not any(word in str(run.run_config) for word in ("127.0.0.1", "THEIR_KEY", "elsewhere"))

        again = asked_for(instance, config, **run.tags)  # executed again in the UI
        assert not again.success
        assert "run config: data_root, models.critic.api_key_env" in why(again)
        assert not (root / "own" / "records").exists()
        monkeypatch.setenv("CAI_DATA_ROOT", str(root / "elsewhere"))
        monkeypatch.setenv("CAI_MODELS__CRITIC", json.dumps(server))
        assert asked_for(instance, config, **run.tags).success  # the same settings by now


@pytest.mark.parametrize("name", sorted(by_own_hand(load_settings())))
def test_what_no_config_has_a_place_for_may_be_typed_though_it_changes_nothing(name: str) -> None:
    value: Any = load_settings().model_dump(mode="json")
    for part in name.split("."):
        value = value[part]
    typed: dict[str, Any] = {}
    put(typed, name.split("."), value, name)
    assert fits(kept({"seed": 3, **typed}).config)


def test_a_run_that_cannot_work_is_not_tried_again(root: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        cannot = asked_for(instance, {"overrides": {"rl": {"rollouts": 7}}})
        assert "rollouts=7 must be a multiple of" in why(cannot)
        (run,) = instance.get_runs()
        assert run.tags["dagster/max_retries"] == "0"
        assert asked_for(instance, {"overrides": FEW}).success
        assert "dagster/max_retries" not in instance.get_runs(limit=1)[0].tags


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


def test_what_is_allowed_runs_from_a_page(root: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert asked_for(instance, {"overrides": {**FEW, "seed": 3}, "scale": "small"}).success
        (run,) = instance.get_runs()
    assert run.tags["cai/scale"] == "small"
    assert Records(Layout(root / "own")).latest("prompts", None)


def test_a_value_between_assets_is_refused_where_dagster_would_pickle_it() -> None:
    with pytest.raises(TypeError, match="'result' is returned as a value; write a table"):
        NoValues().handle_output(dg.build_output_context(name="result", step_key="x"), 1)
    with pytest.raises(TypeError, match="'prompts' is loaded as a value; read the table"):
        NoValues().load_input(dg.build_input_context(name="prompts"))
