"""``cai demo`` on the real model, real vLLM and real TRL, through a real Dagster instance; smaller than smoke."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import polars as pl
import pytest
from finished_demo import Demo
from imported import AT_EXIT, MODELS, STATISTICS
from model_fixtures import prepared_model

from cai_assets.assets import GRAPH, ORDER
from cai_assets.engines.number_format import number_format
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore, read_shard
from cai_assets.store.upkeep import steps

pytestmark = pytest.mark.model
EDITED = ("constitution", "starting_responses", "critiques", "revisions")


def test_its_output_names_every_asset_what_was_made_and_where_to_go_on(demo: Demo) -> None:
    for asset in ORDER:
        assert f"✓ {asset} " in demo.progress
    assert "Traceback" not in demo.progress
    for word in ("rows generated", "4 training runs", "Is it better than the base model?", "Report: ", "cai ui"):
        assert word in demo.output
    assert all(log.stat().st_size for log in (demo.home / "output").glob("*.log"))
    assert len(demo.progress.splitlines()) < 3 * len(ORDER), "what libraries print is in the log"


def test_every_stage_did_its_work_on_the_real_model(demo: Demo) -> None:
    responses = demo.table("initial_responses")
    assert responses.height == 18
    assert responses["response"].n_unique() == 18
    revisions = demo.table("revisions")
    assert revisions.height == demo.table("critiques").height == 16
    assert revisions.filter(pl.col("revision") != pl.col("before")).height > 0
    labels = demo.table("preference_pairs")
    assert labels.height == 12
    graded = labels.filter(pl.col("p_a").is_not_null())
    assert graded.select(pl.col("p_a").is_between(0, 1).all()).item()
    assert graded["p_a"].n_unique() > 1
    policies = set(demo.table("evaluation")["policy"])
    assert policies == {"base", "base_again", "sft_baseline", "sl_policy", "rl_policy", "reward_model"}


def test_every_rate_has_a_count_and_an_interval(demo: Demo) -> None:
    rates = demo.table("evaluation").filter(pl.col("metric").str.contains("win_rate|refusal"), pl.col("n") > 0)
    assert rates.height > 8
    assert rates.select((pl.col("low") <= pl.col("value")).all()).item()
    assert rates.select((pl.col("value") <= pl.col("high")).all()).item()


@pytest.mark.parametrize(("asset", "parent"), [("sl_policy", None), ("sft_baseline", None), ("rl_policy", "sl_policy")])
def test_weights_differ_from_the_parent_and_open(demo: Demo, asset: str, parent: str | None) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = demo.folder(asset)
    before = demo.folder(parent) if parent else demo.data / "models" / prepared_model().path.name
    new, old = load_file(folder / "model.safetensors"), load_file(before / "model.safetensors")
    assert any(not new[name].equal(old[name]) for name in new)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], add_generation_prompt=True,
                                        return_tensors="pt", return_dict=True)
    assert model.generate(**ids, max_new_tokens=4, do_sample=False).shape[1] > ids["input_ids"].shape[1]


def test_dagster_knows_every_materialization_and_check(demo: Demo) -> None:
    from cai_assets.definitions import defs

    with dg.DagsterInstance.from_config(str(demo.home)) as instance:
        for asset in ORDER:
            event = instance.get_latest_materialization_event(dg.AssetKey(asset))
            assert event is not None, asset
            assert event.asset_materialization is not None
            assert (event.asset_materialization.tags or {})["dagster/data_version"] == demo.record(asset).digest
        (run,) = instance.get_run_records(limit=1)
        assert run.dagster_run.status == dg.DagsterRunStatus.SUCCESS
    assert len(list(defs.asset_checks or [])) > 10


def test_a_second_run_generates_no_row_and_trains_nothing(demo: Demo) -> None:
    before = {asset: demo.record(asset).digest for asset in ORDER}
    for more, libraries in ((["--again"], MODELS), ([], MODELS | STATISTICS | {"dagster"})):
        output, _, imported = demo.run("demo", *more, program=("-c", AT_EXIT)).rpartition("MODULES")
        assert "0 rows generated, 0 tokens generated, 0 training runs" in " ".join(output.split())
        assert ("nothing to do" in output) == (not more)
        assert not set(imported.split()) & libraries
    assert {asset: demo.record(asset).digest for asset in ORDER} == before
    made: dict[str, Any] = json.loads((demo.folder("sl_policy") / "record.json").read_text())
    assert sum(p["rows"] for p in made["principles"]) == 16


def test_an_edited_principle_generates_on_the_real_model_what_the_plan_said(demo: Demo) -> None:
    critiques = demo.table("critiques")
    drawn = critiques["principle_id"].mode().sort()[0]
    file = demo.constitutions / "harmlessness.yaml"
    head, _, tail = file.read_text().partition(f"- id: {drawn}\n")
    edited = tail.replace("critique: >-\n", "critique: >-\n      Be brief.\n", 1)
    file.write_text(f"{head}- id: {drawn}\n{edited}")
    plan = {line["asset"]: line for line in json.loads(demo.run("plan", "harmlessness", "--json"))["lines"]}
    selection = [w for asset in EDITED for w in ("--select", asset)]
    demo.run("materialize", "harmlessness", *selection)
    version = next(v for v in demo.records.partitions("critiques") if v != demo.record("sl_policy").partition)
    hit = critiques.filter(pl.col("principle_id") == drawn).group_by("prompt_id").agg(pl.col("round").min())
    for asset in ("critiques", "revisions"):
        record = demo.record(asset, version)
        assert plan[asset]["generate_min"] <= record.generated <= plan[asset]["generate_max"]
        assert plan[asset]["generate_max"] == int((3 - hit["round"]).sum())
        assert plan[asset]["causes"] == {f"principle {drawn} (edited)": plan[asset]["generate_max"]}
        assert record.reused + record.generated == 16
        assert record.reused >= 16 - plan[asset]["generate_max"]


def test_rows_and_checkpoints_hold_the_number_format_of_this_machine_and_a_plan_names_another(demo: Demo) -> None:
    dtype, layout = number_format().dtype, Layout(demo.data)
    payloads = [json.loads(text) for step in steps(layout) for shard in RowStore(layout).shards(step)
                for text in read_shard(shard, ["payload"])["payload"]]
    assert {payload["model"]["dtype"] for payload in payloads} == {dtype}
    for asset in (a.name for a in GRAPH if a.kind == "training"):
        assert json.loads((demo.folder(asset) / "record.json").read_text())["settings"]["dtype"] == dtype
    other = "float32" if dtype == "bfloat16" else "bfloat16"
    plan = " ".join(demo.run("plan", "harmlessness", "-s", f"engine.dtype={other}").split())
    assert f"engine.dtype: {dtype} -> {other}" in plan
    assert f"To reuse what is there, set engine.dtype={dtype}" in plan
