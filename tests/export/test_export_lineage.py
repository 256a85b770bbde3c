"""Lineage for other tools: each format through its own library, and against the records."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from exported import contents, twice, world
from openlineage_read import read_events

from cai_assets.export.bom import problem_of
from cai_assets.export.extra import ExportError
from cai_assets.export.lineage import export_lineage
from cai_assets.export.openlineage import NAMESPACE, materializations, run_events, run_id
from cai_assets.export.provenance import problems, verify
from cai_assets.store.canonical import digest_file

NAMES = ["bom.cdx.json", "openlineage.jsonl", "provenance.intoto.json"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lineage") / "out"
    export_lineage(world().subject("rl_policy", world().later), out)
    assert sorted(p.name for p in out.iterdir()) == ["SHA256SUMS", *NAMES]
    return out


@pytest.fixture
def statement(folder: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((folder / "provenance.intoto.json").read_text())
    return made


def test_every_materialization_is_a_start_and_a_complete(folder: Path) -> None:
    from openlineage.client.event_v2 import RunState
    from openlineage.client.serde import Serde

    events = read_events(folder / "openlineage.jsonl")
    subject = world().subject("rl_policy", world().later)
    assert set(subject.lineage.records) <= {r.ref.id for r in materializations(subject)} | {subject.lineage.root}
    for record in materializations(subject):
        start, complete = [e for e in events if e.run.runId == run_id(record)]
        assert (start.eventType, complete.eventType) == (RunState.START, RunState.COMPLETE)
        took = datetime.fromisoformat(complete.eventTime) - datetime.fromisoformat(start.eventTime)
        assert took.total_seconds() == pytest.approx(record.seconds, abs=1e-5)
        names = [f"{i.asset}/{i.partition or 'all'}" for i in record.inputs]
        assert [i.name for i in complete.inputs if not i.name.startswith("model/")] == names
        assert [i.facets["version"].datasetVersion for i in complete.inputs][:len(names)] == [
            i.digest for i in record.inputs]
        (output,) = complete.outputs
        assert output.facets["version"].datasetVersion == record.digest
        assert complete.run.facets["parent"].run.runId == record.run_id
        assert complete.job.facets["sourceCodeLocation"].version == record.provenance["git"]["commit"]
        assert complete.job.namespace == output.namespace == NAMESPACE
        if record.path.startswith("tables/"):
            assert output.outputFacets["outputStatistics"].rowCount == record.rows
            columns = world().records.table(record).columns
            assert [f.name for f in output.facets["schema"].fields] == columns
    assert len(events) == 2 * len(materializations(subject))
    lines = (folder / "openlineage.jsonl").read_text().splitlines()
    assert [Serde.to_dict(e) for e in events] == [json.loads(line) for line in lines]


def test_the_base_model_is_an_input_of_the_first_training_only(folder: Path) -> None:
    events = read_events(folder / "openlineage.jsonl")
    from_base = {e.job.name for e in events for i in e.inputs if i.name == "model/tiny"}
    assert from_base == {"sl_policy", "sft_baseline", "reward_model"}


def test_the_environment_cannot_send_events_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "http")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__URL", "http://127.0.0.1:9")
    export_lineage(world().subject("sl_policy"), tmp_path / "out")
    assert (tmp_path / "out" / "openlineage.jsonl").stat().st_size > 0
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    with pytest.raises(ExportError, match="OPENLINEAGE_DISABLED"):
        export_lineage(world().subject("sl_policy"), tmp_path / "other")


def test_an_event_that_the_library_refuses_is_named(folder: Path, tmp_path: Path) -> None:
    event = json.loads((folder / "openlineage.jsonl").read_text().splitlines()[0])
    for wrong in ({**event, "eventTime": "yesterday"}, {**event, "eventType": "DONE"}, {**event, "more": 1},
                  {**event, "run": {"runId": "none", "facets": {}}}):
        path = tmp_path / "events.jsonl"
        path.write_text(json.dumps(wrong) + "\n")
        with pytest.raises(ExportError, match="line 1 is no OpenLineage run event"):
            read_events(path)


def test_the_statement_lists_every_file_with_its_digest(statement: dict[str, Any]) -> None:
    folder = world().subject("rl_policy", world().later).folder
    assert problems(statement) == []
    files = {p.relative_to(folder).as_posix(): digest_file(p) for p in folder.rglob("*") if p.is_file()}
    assert {s["name"]: f"sha256:{s['digest']['sha256']}" for s in statement["subject"]} == files


def test_the_statement_names_what_the_checkpoint_was_made_from(statement: dict[str, Any]) -> None:
    subject = world().subject("rl_policy", world().later)
    build, run = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    needed = {d["name"]: d["digest"] for d in build["resolvedDependencies"] if "digest" in d}
    for name, record in subject.lineage.records.items():
        if name != subject.lineage.root:
            kind, _, value = record.digest.partition(":")
            assert needed[name] == {f"cai_{kind}": value}
    base, weights = subject.base()
    assert needed[f"base model {base}"] == {"cai_weights": weights.removeprefix("weights:")}
    assert needed["training rows"] == {"cai_t1": subject.about["data"].removeprefix("t1:")}
    constitution = world().records.latest("constitution", world().version).digest
    assert build["externalParameters"]["constitution"]["digest"] == {"cai_c1": constitution.removeprefix("c1:")}
    assert build["externalParameters"]["settings"] == subject.about["settings"]
    assert run["metadata"]["invocationId"] == subject.lineage.top.run_id


def test_one_changed_byte_is_noticed(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(world().subject("rl_policy", world().later).folder, tmp_path / "copy")
    statement = folder / "provenance.intoto.json"
    assert verify(statement, copy) == []
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "model.safetensors").write_bytes(bytes(data))
    (copy / "README.md").unlink()
    (copy / "more.txt").touch()
    assert verify(statement, copy) == ["README.md is missing", "more.txt is no subject",
                                       "model.safetensors has a different SHA-256"]


def test_a_broken_statement_is_refused(statement: dict[str, Any], tmp_path: Path) -> None:
    wrong = [{**statement, "_type": "other"}, {**statement, "subject": []}, {**statement, "predicate": {}},
             {**statement, "subject": [{"name": "a", "digest": {"sha256": "123"}}]}]
    assert all(problems(w) for w in wrong)
    path = tmp_path / "statement.json"
    path.write_text(json.dumps(wrong[0]))
    with pytest.raises(ExportError, match="is not an SLSA statement"):
        verify(path, tmp_path)


def test_the_bill_of_materials_passes_the_strict_schema_and_loads(folder: Path) -> None:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import ComponentType

    text = (folder / "bom.cdx.json").read_text()
    assert problem_of(text) is None
    assert problem_of(text.replace('"modelCard"', '"modelCards"')) is not None
    bom, subject = Bom.from_json(json.loads(text)), world().subject("rl_policy", world().later)
    model = bom.metadata.component
    assert (model.type, model.version) == (ComponentType.MACHINE_LEARNING_MODEL, subject.key)
    files = {c.name: next(iter(c.hashes)).content for c in model.components}
    assert {n: f"sha256:{d}" for n, d in files.items()} == {
        p.name: digest_file(p) for p in subject.folder.iterdir() if p.is_file()}
    assert {c.bom_ref.value: c.version for c in bom.components if c.type == ComponentType.DATA} == {
        name: r.digest for name, r in subject.lineage.records.items() if r.asset not in {
            "sl_policy", "reward_model", "rl_policy", "sft_baseline"}}
    packages = subject.lineage.top.provenance["packages"]
    assert {str(c.purl) for c in bom.components if c.purl} >= {
        f"pkg:pypi/{n}@{v}" for n, v in packages.items() if "+" not in v}
    bom.validate()


def test_the_dependency_graph_is_that_of_the_records(folder: Path) -> None:
    document = json.loads((folder / "bom.cdx.json").read_text())
    graph = {d["ref"]: set(d.get("dependsOn", ())) for d in document["dependencies"]}
    subject = world().subject("rl_policy", world().later)
    for name, record in subject.lineage.records.items():
        assert {i.id for i in record.inputs} <= graph[name]
    assert "base-model" in graph[subject.lineage.root]


def test_the_model_card_of_the_bill_has_metrics_data_and_limits(folder: Path) -> None:
    document = json.loads((folder / "bom.cdx.json").read_text())
    card, subject = document["metadata"]["component"]["modelCard"], world().subject("rl_policy", world().later)
    metrics = card["quantitativeAnalysis"]["performanceMetrics"]
    assert len(metrics) == subject.metrics().height > 5
    assert any("confidenceInterval" in m for m in metrics)
    assert card["modelParameters"]["modelArchitecture"] == "LlamaForCausalLM"
    assert card["considerations"]["technicalLimitations"]
    assert {d["ref"] for d in card["modelParameters"]["datasets"]} <= {c["bom-ref"] for c in document["components"]}


def test_nothing_of_this_machine_is_in_them_and_a_second_export_is_the_same(folder: Path, tmp_path: Path) -> None:
    one, two = twice(lambda out: export_lineage(world().subject("rl_policy", world().later), out), tmp_path)
    assert one == two == contents(folder)
    for name, data in one.items():
        for place in (str(world().data), "secret-place", str(Path.home()) + "/"):
            assert place.encode() not in data, name


def test_every_checkpoint_can_be_described() -> None:
    for asset in ("sft_baseline", "sl_policy", "reward_model"):
        assert run_events(world().subject(asset))
