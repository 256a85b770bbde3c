"""What is wrong with a model folder, said before a library sees it, without loading anything.

A library says "header too large" of a Git LFS pointer, "incomplete metadata" of a cut download, and takes adapters for
nothing at all. Here each fault is one line: the file, what it is, and what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cai_assets.engines.weights import HEADER, LONGEST, tensors
from cai_assets.store.files import LFS_POINTER

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
OTHER = (".h5", ".msgpack", ".onnx", ".npz")
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
SMALL = ("config.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json", INDEX, ADAPTER)
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
PAGE = "an HTML page: what a server sent instead of the file"
BEGINS = {b"PK\x03\x04": "a zip file, as torch.save writes", b"\x80": "a pickle", b"GGUF": "a GGUF file",
          b"<!": PAGE, b"<h": PAGE}
SERVE_GGUF = "give the original model in safetensors, or serve the file (llama.cpp) and set models.*.base_urls"
AGAIN = "download or copy it again"


def faults(path: Path) -> Iterator[str]:
    """What is wrong with a folder that a model is to be loaded from, the most telling first; nothing if it is whole."""
    files = sorted(path.glob("*"))
    yield from _pointers(path, files)
    yield from _not_json(path)
    yield from _adapters(path)
    yield from _no_config(path, files)
    yield from _own_code(path)
    yield from _no_weights(path, files)
    yield from _missing_shards(path)
    for file in weights(path):
        yield from cut(file)
    if not any((path / name).is_file() for name in TOKENIZERS):
        yield f"{path}: no tokenizer (tokenizer.json); save the model's tokenizer into the same folder"


def is_a_file(file: Path) -> str:
    """What to say of a file that was named in place of a folder."""
    return (f"{file} is a GGUF file, which is not read: {SERVE_GGUF}" if file.suffix == ".gguf" else
            f"{file} is a file, not a model folder: name the folder that it lies in, with configuration and tokenizer")


def weights(path: Path) -> list[Path]:
    """The files of a model's own weights: adapters are none."""
    return sorted(p for p in path.glob("*.safetensors") if not p.name.startswith("adapter_"))


def cut(file: Path) -> Iterator[str]:
    """Whether a safetensors file is whole: the bytes that its header promises against those that are there.

    The format: 8 bytes with the length of the header (little-endian), the header as JSON, and the tensors, each with
    its ``data_offsets`` from the end of the header.
    """
    if not file.exists():
        yield f"{file} is a link to a file that is not there: {AGAIN}"
        return
    size = file.stat().st_size
    with file.open("rb") as f:
        begin = f.read(HEADER)
        length = int.from_bytes(begin, "little") if len(begin) == HEADER else 0
        if length > LONGEST:
            what = next((f" but {what}" for start, what in BEGINS.items() if begin.startswith(start)), "")
            yield f"{file} is no safetensors file{what}; {AGAIN}"
        elif size < HEADER + length or size < HEADER:
            yield f"{file} is cut: {size:,} of more than {HEADER + length:,} bytes; {AGAIN}"
        else:
            yield from _cut_tensors(file, size, HEADER + length, f.read(length))


def _cut_tensors(file: Path, size: int, start: int, header: bytes) -> Iterator[str]:
    try:
        needed = start + max((said["data_offsets"][1] for said in tensors(header).values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        yield f"{file} is damaged: its header cannot be read; {AGAIN}"
        return
    if size < needed:
        yield f"{file} is cut: {size:,} of {needed:,} bytes; {AGAIN}"
    elif size > needed:
        yield f"{file} is damaged: {size - needed:,} bytes more than its header names; {AGAIN}"


def _pointers(path: Path, files: list[Path]) -> Iterator[str]:
    pointers = [p for p in files if p.is_file() and _begins(p, LFS_POINTER)]
    if pointers:
        more = f", and so are {len(pointers) - 1} files more" if len(pointers) > 1 else ""
        yield f"{pointers[0]} is a Git LFS pointer, not the file itself{more}: run 'git lfs pull' in {path}"


def _begins(file: Path, with_: bytes) -> bool:
    with file.open("rb") as f:
        return f.read(len(with_)) == with_


def _not_json(path: Path) -> Iterator[str]:
    for file in (path / name for name in SMALL if (path / name).is_file()):
        if not file.stat().st_size:
            yield f"{file} is empty: {AGAIN}"
        elif why := _content(file)[1]:
            yield f"{file}: {why}: {AGAIN}"
    tokenizer = path / "tokenizer.json"
    if tokenizer.is_file() and not tokenizer.read_bytes().rstrip().endswith(b"}"):
        yield f"{tokenizer} is {'cut: it does not end as JSON does' if tokenizer.stat().st_size else 'empty'}; {AGAIN}"


def _content(file: Path) -> tuple[dict[str, Any], str]:
    """What a JSON file holds, or why it cannot be read."""
    try:
        value = json.loads(file.read_bytes()) if file.is_file() else {}
    except (ValueError, RecursionError) as e:
        return {}, f"not valid JSON ({e})"
    return (value, "") if isinstance(value, dict) else ({}, "expected a JSON object")


def _adapters(path: Path) -> Iterator[str]:
    if not (path / ADAPTER).is_file():
        return
    config = _content(path / ADAPTER)[0]
    base = config.get("base_model_name_or_path") or "a base model that they do not name"
    kind = {"LORA": "LoRA"}.get(kind := str(config.get("peft_type", "LORA")), kind)
    if weights(path):
        yield (f"{path} holds a model and adapters of {base} ({ADAPTER}), and which of them is loaded depends on the "
               f"library: move {ADAPTER} out of it, or merge the adapters first")
        return
    merge = (f'python -c "from peft import AutoPeftModelForCausalLM as M; M.from_pretrained({str(path)!r})'
             ".merge_and_unload().save_pretrained('MERGED')\"")
    yield (f"{path} holds {kind} adapters of {base}, not a model: merge them with {merge}, save the tokenizer of "
           f"{base} there too, and name that folder")


def _no_config(path: Path, files: list[Path]) -> Iterator[str]:
    if (path / "config.json").is_file():
        return
    yield from _only_other_weights(path, files)
    inside = [p.parent for p in sorted(path.glob("*/config.json")) + sorted(path.glob("snapshots/*/config.json"))]
    if inside:
        yield f"{path}: no config.json here, but in {inside[0]}: name that folder"
    elif (path / "params.json").is_file():
        yield f"{path} is in Mistral's own format (params.json): name the folder in the format of transformers"
    elif (path / "model_index.json").is_file():
        yield f"{path} is a diffusers pipeline, not a language model"
    elif not files:
        yield f"{path} {'is empty' if path.is_dir() else 'is not a folder'}; this is not a model folder"
    else:
        yield f"{path}: no config.json; this is not a model folder"


def _own_code(path: Path) -> Iterator[str]:
    for name in ("config.json", "tokenizer_config.json"):
        if "auto_map" in _content(path / name)[0]:
            yield (f"{path / name}: 'auto_map' asks to run code that ships with the model, which is refused; many such "
                   "models have a version for transformers' own code, or remove 'auto_map' if transformers knows this "
                   "model_type")


def _no_weights(path: Path, files: list[Path]) -> Iterator[str]:
    if weights(path):
        return
    yield from _only_other_weights(path, files)
    waiting = [p.name for p in files if p.suffix in {".incomplete", ".part", ".crdownload", ".tmp"}]
    more = f"; {waiting[0]} is a download that did not end" if waiting else ""
    yield (f"{path}: no .safetensors file{more}: the weights were not copied, or are in a format that is not read; "
           "copy them, or convert them with transformers (save_pretrained)")


def _only_other_weights(path: Path, files: list[Path]) -> Iterator[str]:
    """Weights in a form that is not read here, if there are no others."""
    if weights(path):
        return
    gguf, pickled, other = ([p.name for p in files if p.suffix in form] for form in ((".gguf",), PICKLED, OTHER))
    if gguf:
        yield f"{path} holds a GGUF file only ({gguf[0]}): {SERVE_GGUF}"
    elif pickled:
        yield (f"{path}: no .safetensors file; pickled weights ({pickled[0]}) are refused, because opening them can "
               "run code: convert them first (transformers: save_pretrained)")
    elif other:
        yield f"{path}: no .safetensors file; {other[0]} is not read: convert it first (transformers: save_pretrained)"


def _missing_shards(path: Path) -> Iterator[str]:
    there = {p.name for p in weights(path)}
    named = set(_content(path / INDEX)[0].get("weight_map", {}).values())
    for name in there:
        if shard := SHARD.fullmatch(name):
            named |= {f"{shard[1]}-{i:05d}-of-{shard[3]}.safetensors" for i in range(1, int(shard[3]) + 1)}
    if missing := sorted(named - there):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield f"{path}: {missing[0]}{more} of {len(named)} shards missing: download or copy the weights again"
    elif any(SHARD.fullmatch(name) for name in there) and not (path / INDEX).is_file():
        yield f"{path}: no {INDEX}, which says what is in each shard: {AGAIN}"
