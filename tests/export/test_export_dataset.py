"""Exported data sets against the tables they come from, read with the library that others read them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from exported import contents, twice, world

from cai_assets.export.dataset import DataExport
from cai_assets.export.dataset_card import size
from cai_assets.export.extra import ExportError
from cai_assets.export.hub_dataset import export_dataset, write_split
from cai_assets.export.rows import cai_rows, preference_rows, sft_rows
from cai_assets.steps.frames import transcript
from cai_assets.store.sums import SUMS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dataset") / "out"
    _export(out)
    return out


def _export(out: Path, **options: Any) -> DataExport:
    return export_dataset(world().layout, world().version, out, **{"held_out": 0.2, **options})


def _loaded(folder: Path, config: str, cache: Path) -> dict[str, list[dict[str, Any]]]:
    import datasets

    return {split: list(rows) for split, rows in
            datasets.load_dataset(str(folder), config, cache_dir=str(cache)).items()}


def _table(asset: str) -> pl.DataFrame:
    return world().records.table(world().records.latest(asset, world().version))


def test_sft_rows_are_those_of_the_table_as_messages(folder: Path, tmp_path: Path) -> None:
    rows, table = _loaded(folder, "sft", tmp_path)["train"], _table("sl_dataset").to_dicts()
    assert len(rows) == len(table) > 10
    for row, known in zip(rows, table, strict=True):
        assert row["messages"] == [*known["messages"], {"role": "assistant", "content": known["response"]}]
        assert {k: row[k] for k in ("row_id", "prompt_id", "round", "principle_id", "kind")} == {
            k: known[k] for k in ("row_id", "prompt_id", "round", "principle_id", "kind")}


def test_of_a_general_file_only_the_name_leaves() -> None:
    table = _table("sl_dataset").with_columns(source=pl.lit("/home/me/chats/general.jsonl:7"))
    assert set(sft_rows(table, "v")["source"]) == {"general.jsonl:7"}


def test_preferences_are_the_graded_pairs_and_no_prompt_is_in_both_splits(folder: Path, tmp_path: Path) -> None:
    found = _loaded(folder, "preferences", tmp_path)
    known = {r["row_id"]: r for r in _table("preference_pairs").to_dicts() if r["p_a"] not in {None, 0.5}}
    rows = [r for split in found.values() for r in split]
    assert {r["row_id"] for r in rows} == set(known)
    assert len(rows) == len(known)
    for row in rows:
        pair = known[row["row_id"]]
        assert row["prompt"] == pair["messages"]
        assert row["chosen"] == [{"role": "assistant", "content": pair["chosen"]}]
        assert row["rejected"] == [{"role": "assistant", "content": pair["rejected"]}]
        assert (row["p_chosen"], row["label"], row["principle_id"], row["prompt_id"]) == (
            pair["p_chosen"], pair["label"], pair["principle_id"], pair["prompt_id"])
        assert (row["round"], row["version"]) == (1, world().version)
    prompts = {split: {r["prompt_id"] for r in split_rows} for split, split_rows in found.items()}
    assert not prompts["train"] & prompts.get("test", set())


def test_held_out_pairs_are_the_test_split() -> None:
    rows = preference_rows(_table("preference_pairs"), held_out=0.6, version="v", round_number=3)
    assert 0 < rows.filter("held_out").height < rows.height
    assert set(rows["round"]) == {3}


def test_the_cai_config_has_the_known_names_and_every_finished_revision(folder: Path, tmp_path: Path) -> None:
    rows = _loaded(folder, "cai", tmp_path)["train"]
    revisions = {r["row_id"]: r for r in _table("revisions").to_dicts() if r["revision"]}
    critiques = {(r["prompt_id"], r["round"]): r["critique"] for r in _table("critiques").to_dicts()}
    prompts = {r["prompt_id"]: r for r in _table("starting_responses").to_dicts()}
    principles = {p.id: p for p in world().history.constitution.principles}
    assert list(rows[0])[:6] == ["init_prompt", "init_response", "critic_prompt", "critic_response", "revision_prompt",
                                 "revision_response"]
    assert {r["row_id"] for r in rows} == set(revisions)
    for row in rows:
        known, start = revisions[row["row_id"]], prompts[row["prompt_id"]]
        principle = principles[known["principle_id"]]
        assert row["init_prompt"] == transcript(start["messages"])
        assert row["first_response"] == start["response"]
        assert (row["init_response"], row["revision_response"]) == (known["before"], known["revision"])
        assert row["critic_response"] == critiques[row["prompt_id"], row["round"]]
        assert (row["critic_prompt"], row["revision_prompt"]) == (principle.critique, principle.revision)
        assert row["last_round"] == (row["round"] == max(
            r["round"] for r in rows if r["prompt_id"] == row["prompt_id"]))
    assert any(r["init_response"] == r["first_response"] for r in rows)


def test_a_direct_revision_has_no_critique() -> None:
    critiques = _table("critiques").with_columns(critique=pl.lit(None, pl.String))
    revisions = _table("revisions").with_columns(critique_of=pl.lit(None, pl.String))
    rows = cai_rows(_table("starting_responses"), critiques, revisions, world().history.constitution, "v")
    assert rows.height == revisions.filter(pl.col("revision").is_not_null()).height
    assert rows["critic_prompt"].null_count() == rows["critic_response"].null_count() == rows.height
    assert rows["revision_prompt"].null_count() == 0


def test_the_card_parses_and_says_what_was_used(folder: Path) -> None:
    from huggingface_hub import DatasetCard, metadata_load

    card, data = DatasetCard.load(folder / "README.md"), metadata_load(folder / "README.md")
    assert data == card.data.to_dict() == yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert [c["config_name"] for c in data["configs"]] == ["sft", "preferences", "cai"]
    assert (data["license"], data["size_categories"]) == ("unknown", ["n<1K"])
    for path in (p["path"] for c in data["configs"] for p in c["data_files"]):
        assert list(folder.glob(path)), path
    for p in world().history.constitution.principles:
        assert p.id in card.text
    record = world().records.latest("preference_pairs", world().version)
    assert record.digest in card.text
    assert record.provenance["git"]["commit"] in card.text
    assert "No license is set" in card.text
    assert "critique.rounds | 3" in card.text.replace("\\", "")


def test_a_license_that_is_named_stands_in_the_card(tmp_path: Path) -> None:
    _export(tmp_path / "out", license_="cc-by-4.0", kind="sft")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "license: cc-by-4.0" in text
    assert "No license" not in text


def test_no_place_of_this_machine_leaves(folder: Path) -> None:
    for name, data in contents(folder).items():
        for place in (str(world().data), "secret-place", str(Path.home()) + "/"):
            assert place.encode() not in data, name


def test_a_second_export_has_the_same_bytes(tmp_path: Path) -> None:
    one, two = twice(_export, tmp_path)
    assert one == two
    assert len(one) >= 4


def test_later_rounds_are_exported_as_such(tmp_path: Path) -> None:
    made = export_dataset(world().layout, world().later, tmp_path / "out", held_out=0.2)
    assert set(made.splits["preferences"]["train"]["round"]) == {2}
    assert set(made.splits["sft"]["train"]["version"]) == {world().later}
    assert "the RL policy of the round before" in (tmp_path / "out" / "README.md").read_text()


def test_a_folder_in_use_is_not_written_and_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match="not empty"):
        _export(out)
    assert contents(out) == {"mine.txt": b"mine"}
    _export(out, kind="sft", force=True)
    assert set(contents(out)) == {"README.md", SUMS, "data/sft/train-00000-of-00001.parquet"}
    with pytest.raises(ExportError, match="no registered constitution"):
        export_dataset(world().layout, "nothing-v1-00000000", tmp_path / "other", held_out=0.2)
    with pytest.raises(ExportError, match="is inside the data root"):
        _export(world().data / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_was_not_made_is_named(tmp_path: Path) -> None:
    other = world().history.constitution.model_copy(update={"version": "v9"})
    key = world().history.project(world().data).snapshots.register(other)
    with pytest.raises(ExportError, match=r"sl_dataset .*materialize it first"):
        export_dataset(world().layout, key, tmp_path / "out", held_out=0.2)


def test_many_rows_are_split_into_files_of_the_hubs_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cai_assets.export.hub_dataset.ROWS_A_FILE", 10)
    frame = sft_rows(_table("sl_dataset"), "v").head(15)
    write_split(tmp_path, "train", frame)
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == [f"train-{i:05d}-of-00002.parquet" for i in range(2)]
    assert pl.concat([pl.read_parquet(tmp_path / f) for f in files]).equals(frame)


def test_the_sizes_of_the_hub() -> None:
    assert [size(n) for n in (0, 999, 1000, 50_000, 10**9)] == ["n<1K", "n<1K", "1K<n<10K", "10K<n<100K", "n>100M"]
