"""A broken model folder is named before a library sees it: what it is, how much is missing, and what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from given import safetensors

from cai_assets.engines.model_folder import cut, faults
from cai_assets.engines.models import ModelError, check_folder, prepare
from cai_assets.settings import Model
from cai_assets.store.layout import Layout

WHOLE = safetensors(b"w" * 100)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 269060552\n"
Spoil = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "llama"}')
    (path / "model.safetensors").write_bytes(WHOLE)
    (path / "tokenizer.json").write_text("{}")
    return path


def adapters(path: Path, *, alone: bool = True) -> None:
    if alone:
        (path / "model.safetensors").rename(path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "org/base-7b"}')


def shards(path: Path, *numbers: int, index: bool = True) -> None:
    (path / "model.safetensors").unlink()
    names = [f"model-{i:05d}-of-00003.safetensors" for i in (1, 2, 3)]
    for i in numbers:
        (path / names[i - 1]).write_bytes(WHOLE)
    if index:
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict(enumerate(names))}))


def only(path: Path, name: str) -> None:
    for file in path.iterdir():
        file.unlink()
    (path / name).write_bytes(b"x")


def nested(path: Path, name: str) -> None:
    inside = path / name
    inside.mkdir(parents=True)
    for file in [p for p in path.iterdir() if p.is_file()]:
        file.rename(inside / file.name)


def write(name: str, content: str | bytes) -> Spoil:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda path: (path / name).write_bytes(data)


def link(path: Path) -> None:
    (path / "model.safetensors").unlink()
    os.symlink(path / "blobs" / "gone", path / "model.safetensors")


BROKEN: list[tuple[str, Spoil, str]] = [
    ("adapters alone", adapters, "holds LoRA adapters of org/base-7b, not a model: merge them with python -c"),
    ("adapters alone, no config", lambda p: (adapters(p), (p / "config.json").unlink()), "adapters of org/base-7b"),
    ("adapters beside a model", lambda p: adapters(p, alone=False), "holds a model and adapters of org/base-7b"),
    ("a pointer for weights", write("model.safetensors", POINTER),
     "model.safetensors is a Git LFS pointer, not the file itself: run 'git lfs pull' in "),
    ("pointers for all", lambda p: [write(n, POINTER)(p) for n in ("model.safetensors", "tokenizer.json")],
     "and so are 1 files more: run 'git lfs pull'"),
    ("cut tensors", write("model.safetensors", WHOLE[:-40]),
     f"model.safetensors is cut: {len(WHOLE) - 40} of {len(WHOLE)} bytes; download or copy it again"),
    ("a cut header", write("model.safetensors", WHOLE[:20]), "model.safetensors is cut: 20 of more than "),
    ("a cut length", write("model.safetensors", WHOLE[:3]), "model.safetensors is cut: 3 of more than 8 bytes"),
    ("an empty file", write("model.safetensors", b""), "model.safetensors is cut: 0 of more than 8 bytes"),
    ("bytes too many", write("model.safetensors", WHOLE + b"\0" * 7), "7 bytes more than its header names"),
    ("a broken header", write("model.safetensors", (4).to_bytes(8, "little") + b"nope"), "its header cannot be read"),
    ("a header of other JSON", write("model.safetensors", (2).to_bytes(8, "little") + b"[]"), "header cannot be read"),
    ("an HTML page", write("model.safetensors", "<!DOCTYPE html><p>Not found"), "is no safetensors file but an HTML"),
    ("a pickle by another name", write("model.safetensors", b"PK\x03\x04" + b"\x08" * 40), "but a zip file, as torch"),
    ("a link to nothing", link, "is a link to a file that is not there"),
    ("a shard is missing", lambda p: shards(p, 1, 3), "model-00002-of-00003.safetensors of 3 shards missing"),
    ("two shards are missing", lambda p: shards(p, 2), "model-00001-of-00003.safetensors and 1 more of 3 shards"),
    ("all shards are missing", shards, "no .safetensors file"),
    ("shards without index", lambda p: shards(p, 1, 2, 3, index=False), "no model.safetensors.index.json"),
    ("a cut shard", lambda p: (shards(p, 1, 2, 3), write("model-00002-of-00003.safetensors", WHOLE[:-1])(p)),
     "model-00002-of-00003.safetensors is cut"),
    ("GGUF alone", lambda p: only(p, "model-q4.gguf"), "holds a GGUF file only (model-q4.gguf)"),
    ("GGUF and a config", lambda p: (p / "model.safetensors").rename(p / "m.gguf"), "holds a GGUF file only (m.gguf)"),
    ("pickled", lambda p: (p / "model.safetensors").rename(p / "pytorch_model.bin"), "weights (pytorch_model.bin)"),
    ("a download that did not end", lambda p: (p / "model.safetensors").rename(p / "model.safetensors.incomplete"),
     "is a download that did not end"),
    ("TensorFlow's", lambda p: (p / "model.safetensors").rename(p / "tf_model.h5"), "tf_model.h5 is not read: convert"),
    ("code of its own", write("config.json", '{"auto_map": {"AutoModel": "evil.Model"}}'), "config.json: 'auto_map'"),
    ("a tokenizer with code", write("tokenizer_config.json", '{"auto_map": {}}'), "tokenizer_config.json: 'auto_map'"),
    ("an empty config", write("config.json", ""), "config.json is empty"),
    ("a cut config", write("config.json", '{"model_type": '), "config.json: not valid JSON"),
    ("a config that is a list", write("config.json", "[]"), "config.json: expected a JSON object"),
    ("a cut index", write("model.safetensors.index.json", '{"weight_map": {'), "index.json: not valid JSON"),
    ("a cut tokenizer", write("tokenizer.json", '{"model": {"vocab": {"a'), "tokenizer.json is cut"),
    ("an empty tokenizer", write("tokenizer.json", ""), "tokenizer.json is empty"),
    ("no tokenizer", lambda p: (p / "tokenizer.json").unlink(), "no tokenizer (tokenizer.json)"),
    ("no config", lambda p: (p / "config.json").unlink(), "no config.json; this is not a model folder"),
    ("a folder above", lambda p: nested(p, "checkpoint-100"), "checkpoint-100: name that folder"),
    ("a cache of the Hub", lambda p: nested(p, "snapshots/0123"), "snapshots/0123: name that folder"),
    ("nothing at all", lambda p: [f.unlink() for f in p.iterdir()], "is empty; this is not a model folder"),
    ("a diffusers pipeline", lambda p: only(p, "model_index.json"), "is a diffusers pipeline"),
    ("Mistral's own format", lambda p: only(p, "params.json"), "Mistral's own format"),
]


def test_a_whole_folder_has_no_fault(folder: Path) -> None:
    assert list(faults(folder)) == []
    shards(folder, 1, 2, 3)
    assert list(faults(folder)) == []


@pytest.mark.parametrize(("spoil", "words"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_a_broken_folder_is_one_line_that_names_it(folder: Path, spoil: Spoil, words: str) -> None:
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        check_folder(folder)
    assert words in str(caught.value)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("name", "words"), [
    ("model.gguf", "is a GGUF file, which is not read"), ("model.safetensors", "name the folder that it lies in")])
def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(WHOLE)
    with pytest.raises(ModelError, match=words):
        prepare(Model(source=str(tmp_path / name)), Layout(tmp_path / "data"))


def test_every_length_that_a_download_can_stop_at_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    for length in range(len(WHOLE)):
        file.write_bytes(WHOLE[:length])
        (fault,) = cut(file)
        assert "is cut" in fault
    file.write_bytes(WHOLE)
    assert list(cut(file)) == []


def test_no_library_is_loaded_for_it(folder: Path) -> None:
    code = ("import sys; from pathlib import Path; from cai_assets.engines.model_folder import faults; "
            "list(faults(Path(sys.argv[1]))); print([m for m in ('torch', 'safetensors') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
