"""Exported checkpoints: they load, trace and verify on their own, and name nothing of this machine."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from exported import contents, twice, world

from cai_assets.export.extra import ExportError
from cai_assets.export.hub_model import export_model
from cai_assets.export.subject import find_subject
from cai_assets.lineage.trace import to_json, trace
from cai_assets.lineage.verify.checkpoints import checkpoint_problems
from cai_assets.store.layout import Layout

ASSETS = ("sft_baseline", "sl_policy", "reward_model", "rl_policy")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for asset in ASSETS:
        export_model(world().subject(asset), root / asset, datasets=["someone/some-data"], license_="apache-2.0")
    return {asset: root / asset for asset in ASSETS}


def test_the_weights_are_the_checkpoints_and_load(folders: dict[str, Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for asset, folder in folders.items():
        weights = world().subject(asset).folder / "model.safetensors"
        assert (folder / "model.safetensors").read_bytes() == weights.read_bytes()
    model = AutoModelForCausalLM.from_pretrained(folders["rl_policy"])
    tokenizer = AutoTokenizer.from_pretrained(folders["rl_policy"])
    ids = tokenizer("hello world", return_tensors="pt").input_ids
    assert model(ids).logits.shape == (1, 2, len(tokenizer))


def test_an_exported_folder_traces_and_verifies_where_nothing_else_is(folders: dict[str, Path], tmp_path: Path) -> None:
    for asset, folder in folders.items():
        there = shutil.copytree(folder, tmp_path / asset)
        assert checkpoint_problems(there) == []
        known, carried = world().subject(asset), trace(Layout(tmp_path / "nothing"), str(there))
        assert to_json(carried.lineage) == to_json(known.lineage)
        assert carried.lineage.influence == known.traced.lineage.influence
        assert carried.rows().equals(known.traced.rows())


def test_no_place_of_this_machine_leaves_in_any_text_file(folders: dict[str, Path]) -> None:
    assert "secret-place" in (world().subject("sl_policy").folder / "record.json").read_text()
    for folder in folders.values():
        for name, data in contents(folder).items():
            for place in (str(world().data), "secret-place", str(Path.home()) + "/"):
                assert place.encode() not in data, name


def test_the_card_says_how_far_the_parent_is_covered(folders: dict[str, Path], tmp_path: Path) -> None:
    told = ("Coverage of its parent: 2 sentences of harbor v1: 1 mapped, 0 deferred, 1 missing in customer-service v1; "
            f"clauses: {len(world().history.constitution.principles) - 1} orphan. Each sentence: `cai coverage harbor "
            f"{world().version}`")
    for asset, folder in folders.items():
        text = (folder / "README.md").read_text()
        assert text.count(told) == (asset != "sft_baseline"), asset
    older = shutil.copytree(world().subject().folder, tmp_path / "older")
    card = older / "README.md"
    card.write_text(card.read_text().replace(told, ""))
    export_model(dataclasses.replace(world().subject(), folder=older), tmp_path / "again", license_="apache-2.0")
    assert (tmp_path / "again" / "README.md").read_text().count(told) == 1


def test_the_card_has_the_evaluation_with_intervals(folders: dict[str, Path]) -> None:
    from huggingface_hub import ModelCard, metadata_eval_result  # noqa: F401

    for asset, folder in folders.items():
        card, subject = ModelCard.load(folder / "README.md"), world().subject(asset)
        known = {(m["metric"], m["prompts"]): m for m in subject.metrics().iter_rows(named=True)}
        results = card.data.eval_results or []
        assert {(r.metric_type, r.dataset_config) for r in results} == set(known)
        for r in results:
            m = known[r.metric_type, r.dataset_config]
            assert r.metric_value == m["value"]
            assert r.metric_args["n"] == m["n"]
            assert r.metric_args.get("low") == m["low"]
        assert card.data.datasets == ["someone/some-data"]
        assert card.data.license == "apache-2.0"
        assert "No license" not in card.text
        assert subject.key in card.text.replace("\\", "")
    assert known


def test_the_card_names_principles_with_their_shares(folders: dict[str, Path]) -> None:
    text = (folders["rl_policy"] / "README.md").read_text()
    found = world().subject().lineage.influence
    assert found is not None
    for p in found.principles:
        assert f"| {p.id} |" in text
        assert f"{p.text_share:.1%}" in text
    assert "## Limits" in text
    assert "## Lineage" in text


def test_a_base_on_the_hub_is_the_base_model_through_every_checkpoint_between() -> None:
    subject = world().subject("rl_policy", world().later)
    assert subject.base() == world().subject("sl_policy").base()
    assert subject.base()[0] == "tiny"
    assert subject.about["base_name"] == "sl_policy"


def test_an_export_of_an_export_says_the_same(folders: dict[str, Path], tmp_path: Path) -> None:
    subject = find_subject(Layout(tmp_path / "nothing"), str(folders["sl_policy"]))
    export_model(subject, tmp_path / "out")
    one, two = contents(folders["sl_policy"]), contents(tmp_path / "out")
    assert {n: d for n, d in one.items() if n not in {"README.md", "record.json"}} == {
        n: d for n, d in two.items() if n not in {"README.md", "record.json"}}
    assert two["README.md"].count(b"added by the export") == 1
    assert checkpoint_problems(tmp_path / "out") == []


def test_a_second_export_has_the_same_bytes(tmp_path: Path) -> None:
    one, two = twice(lambda out: export_model(world().subject(), out), tmp_path)
    assert one == two


def test_configurations_lose_where_they_were_loaded_from(tmp_path: Path) -> None:
    from cai_assets.export.hub_model import _without_local_names

    path = tmp_path / "config.json"
    path.write_text('{"_name_or_path": "/home/someone/models/base", "model_type": "llama"}')
    _without_local_names(path)
    assert path.read_text() == '{\n  "_name_or_path": "base",\n  "model_type": "llama"\n}'


def test_a_damaged_checkpoint_is_not_exported(tmp_path: Path) -> None:
    subject = world().subject("sl_policy")
    there = shutil.copytree(subject.folder, tmp_path / "copy")
    (there / "model.safetensors").write_bytes(b"x" + (there / "model.safetensors").read_bytes()[1:])
    with pytest.raises(ExportError, match=r"model\.safetensors is not as record\.json says"):
        find_subject(world().layout, str(there))


def test_what_is_no_checkpoint_or_unknown_is_refused() -> None:
    with pytest.raises(ExportError, match="not a checkpoint"):
        find_subject(world().layout, f"sl_dataset@{world().version}")
    with pytest.raises(ExportError, match="cannot trace"):
        find_subject(world().layout, "rl_policy@nothing")


def test_a_text_that_names_a_private_place_stops_the_export(tmp_path: Path) -> None:
    from cai_assets.export.folder import fresh

    with pytest.raises(ExportError, match=r"README\.md names"), \
            fresh(tmp_path / "out", force=False, private=(world().data,)) as folder:
        (folder / "README.md").write_text(f"see {world().data}/models")
    assert list(tmp_path.iterdir()) == []
