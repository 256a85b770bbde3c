"""What this machine's GPU does: ``make gpu-check``, or ``python benchmarks/gpu_check.py [--write FILE] [--smallest]``.

Under eight minutes on one H200, without a network: models with random weights, in the shapes of Llama 3.2 1B and Llama
3.1 8B, and a tokenizer are made on the spot. Trainings run as the product runs them, engines as the pool starts them,
each in a process of its own, so that one that fails costs its own line (``--smallest``: all in one). Model FLOP
utilization is TRL's: three times the forward pass, twice with LoRA, whose frozen weights need no gradient. What is not
installed, or for which no time is left, is named. ``--write`` appends the table to a page; ``--smallest`` is for tests:
tiny models, any device.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[1]
NEEDED = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "polars", "pydantic", "dagster_pipes")
LIMIT = 450  # seconds of the whole check
LLAMA = {"num_key_value_heads": 8, "max_position_embeddings": 8192, "vocab_size": 128_256, "rms_norm_eps": 1e-5}
SHAPES: dict[str, dict[str, Any]] = {
    "1B": {**LLAMA, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "tie_word_embeddings": True},
    "8B": {**LLAMA, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
           "num_attention_heads": 32, "tie_word_embeddings": False},
    "tiny": {**LLAMA, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 1, "vocab_size": 1024, "tie_word_embeddings": True},
}
WORDS = 1000
GENERATE, BY_VLLM = "PPO, sampled by transformers", "PPO, sampled by vLLM"
TEMPLATE = ("{% for m in messages %}{{ '<|start|> ' + m['role'] + ' ' + m['content'] + ' <|end|> ' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|start|> assistant ' }}{% endif %}")
Figures = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One line of the table. ``seconds``: about what it takes on an H200; ``needs``: a package."""

    what: str
    model: str
    seconds: int
    measure: Callable[[Path, bool], Figures]
    needs: str = "torch"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--write", type=Path, help="a page to append the table to")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        print(json.dumps(_measured(PARTS[int(asked.part)], asked.folder, smallest=False)))
        return 0
    if lacking := _lacking(smallest=asked.smallest):
        print(f"make gpu-check needs an NVIDIA GPU with 80 GB or more, and {', '.join(NEEDED)}: here {lacking}")
        return 1
    text = check(smallest=asked.smallest)
    print(text)
    if asked.write:
        with asked.write.open("a", encoding="utf-8") as page:
            page.write(f"\n{text}\n")
    return 0


def _lacking(*, smallest: bool) -> str:
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        return f"{', '.join(missing)} is not installed" if len(missing) == 1 else f"{', '.join(missing)} are not"
    import torch

    return "" if smallest or torch.cuda.is_available() else "PyTorch sees no GPU"


def check(*, smallest: bool) -> str:
    """Measure every part and return the section of the page."""
    begun, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for number, part in enumerate(PARTS):
            left = LIMIT - (time.monotonic() - begun)
            if smallest and part.needs == "vllm":
                figures: Figures = {"note": "left out: for GPUs"}
            elif smallest:
                figures = _measured(part, Path(folder), smallest=True)
            elif find_spec(part.needs) is None:
                figures = {"note": f"left out: {part.needs} is not installed"}
            elif part.seconds > left:
                figures = {"note": f"left out: about {part.seconds} s, and {max(0, left):.0f} s are left"}
            else:
                figures = _in_a_process(number, Path(folder), left)
            rows.append((part, figures))
            print(_line(*rows[-1]), file=sys.stderr, flush=True)
    return _section(rows, time.monotonic() - begun)


def _in_a_process(number: int, folder: Path, limit: float) -> Figures:
    command = [sys.executable, __file__, "--part", str(number), "--folder", str(folder)]
    start = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"note": f"stopped after {limit:.0f} s"}
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return {"note": f"failed with {done.returncode}: {said[:160]}"}
    return {**json.loads(last), "seconds": time.monotonic() - start}


def _measured(part: Part, folder: Path, *, smallest: bool) -> Figures:
    import torch

    figures = part.measure(folder, smallest)
    if torch.cuda.is_available():
        figures.setdefault("peak_gb", torch.cuda.max_memory_reserved() / 1e9)
    return figures


def model(folder: Path, size: str, *, smallest: bool) -> Path:
    """A folder with random weights in bfloat16 and a tokenizer whose words are numbers; made once."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    size = "tiny" if smallest else size
    path = folder / size
    if (path / "config.json").exists():
        return path
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    tokenizer = _tokenizer()
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
           "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    with torch.device(device):
        made = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPES[size], **ids), dtype=dtype)
    made.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<|start|>", "<|end|>"]
    names = [*special, "system", "user", "assistant", *map(str, range(WORDS))]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))  # noqa: S106
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<|start|>",  # noqa: S106
                                        eos_token="<|end|>", pad_token="<pad>")  # noqa: S106
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _words(n: int, first: int) -> str:
    return " ".join(str((first * 7 + i * 13) % WORDS) for i in range(n))


def job(folder: Path, name: str, kind: str, base: Path, length: int, rows: int, **settings: Any) -> Any:
    """A training of ``rows`` rows of about ``length`` tokens each."""
    import polars as pl

    from cai_assets.engines.number_format import number_format
    from cai_assets.settings import load_settings
    from cai_assets.train.identity import TRAINING_GROUP
    from cai_assets.train.job import Job

    work = folder / name
    work.mkdir(exist_ok=True)
    reward_model = settings.pop("reward_model", None)
    group = TRAINING_GROUP[kind]  # type: ignore[index]
    given = getattr(load_settings({group: {"max_length": length + 16, **settings}}, environment={}), group)
    half = length // 2
    data = [{"messages": [{"role": "user", "content": _words(half, i)}], "response": _words(half, i + 1),
             "chosen": _words(half, i + 2), "rejected": _words(half, i + 3), "p_chosen": 0.9, "held_out": i < 2}
            for i in range(rows)]
    columns = {"supervised": ["messages", "response"], "reinforcement": ["messages", "held_out"],
               "reward": ["messages", "chosen", "rejected", "p_chosen", "held_out"]}[kind]
    pl.DataFrame(data).select(columns).write_parquet(work / "data.parquet")
    made = Job(kind=kind, key=name, base=base, data=work / "data.parquet", work=work / "work",  # type: ignore[arg-type]
               settings=given.model_dump(mode="json"), dtype=number_format().dtype, reward_model=reward_model)
    (work / "job.json").write_text(made.model_dump_json(), encoding="utf-8")
    return made


def timed(made: Any) -> float:
    """Train; seconds of a step after the first."""
    from cai_assets.train.__main__ import run_job
    from cai_assets.train.progress import Reporter
    from cai_assets.train.sampler import choose

    choose(made)
    at: list[float] = []
    run_job(made, Reporter(lambda line: at.append(time.monotonic()) if line.startswith("step ") else None, every=0.0))
    return (at[-1] - at[0]) / max(1, len(at) - 1)


def supervised(size: str, batch: int, lora: bool) -> Callable[[Path, bool], Figures]:
    def measure(folder: Path, smallest: bool) -> Figures:
        base, length, steps = model(folder, size, smallest=smallest), *((24, 3) if smallest else (1024, 12))
        made = job(folder, f"sft-{size}-{lora}", "supervised", base, length, batch * steps, batch_size=batch, epochs=1,
                   lora={"rank": 16} if lora else None)
        return _speed(base, length, batch * length / timed(made), passes=2 if lora else 3)

    return measure


def reward(folder: Path, smallest: bool) -> Figures:
    base, length, steps = model(folder, "1B", smallest=smallest), *((24, 3) if smallest else (512, 10))
    made = job(folder, "reward", "reward", base, length, 8 * steps + 2, batch_size=8, epochs=1)
    return _speed(base, length, 2 * 8 * length / timed(made), passes=3)


def reinforcement(algorithm: str, sampler: str) -> Callable[[Path, bool], Figures]:
    """Responses a second of a whole step, and of sampling alone: the same prompts whoever samples."""

    def measure(folder: Path, smallest: bool) -> Figures:
        base, length, tokens = model(folder, "1B", smallest=smallest), *((16, 6) if smallest else (256, 128))
        rollouts = 8 if smallest else 64
        made = job(folder, f"rl-{algorithm}-{sampler}", "reinforcement", base, length, 32, algorithm=algorithm,
                   sampler=sampler, steps=4, rollouts=rollouts, batch_size=8, group=4, ppo_epochs=1, max_tokens=tokens,
                   missing_eos_penalty=0, reward_model=folder / "reward" / "work" / "final")
        with _sampling_timed() as seconds:
            whole = rollouts / timed(made)
        later = seconds[1:] or seconds  # the first starts what samples
        return {"rollouts_s": whole, "sampled_s": rollouts * len(later) / sum(later)}

    return measure


@contextmanager
def _sampling_timed() -> Iterator[list[float]]:
    """The seconds of each time that a step's responses are sampled, the new weights' way to vLLM among them."""
    from cai_assets.train.rollouts import Rollouts

    sample, seconds = Rollouts._generate_single_turn, []

    def timed_one(trainer: Any, *arguments: Any, **more: Any) -> Any:
        begin = time.monotonic()
        found = sample(trainer, *arguments, **more)
        seconds.append(time.monotonic() - begin)
        return found

    with patch.object(Rollouts, "_generate_single_turn", timed_one):
        yield seconds


def _speed(base: Path, length: int, tokens_s: float, *, passes: int) -> Figures:
    import torch
    from transformers import AutoConfig
    from trl.trainer import utils

    if not torch.cuda.is_available():
        return {"tokens_s": tokens_s}
    flops = utils.compute_flops_per_token(AutoConfig.from_pretrained(base), length) * passes / 3
    peak = utils.get_peak_flops(torch.cuda.get_device_name(), "bfloat16")
    return {"tokens_s": tokens_s, **({"mfu": 100 * flops * tokens_s / peak} if peak else {})}


def engine(size: str, backend: str) -> Callable[[Path, bool], Figures]:
    def measure(folder: Path, smallest: bool) -> Figures:
        import torch

        from cai_assets.engines.protocol import Call, ModelIdentity, Request, Sampling
        from cai_assets.registry.base import load
        from cai_assets.registry.engines import BACKENDS
        from cai_assets.settings import Engine

        path, n, tokens = model(folder, size, smallest=smallest), *((4, 4) if smallest else (256, 128))
        made = load(BACKENDS[backend].factory)(path, ModelIdentity(weights="", tokenizer="", template=""),
                                               Engine(max_model_len=1024))
        before = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
        calls = [Call(messages=({"role": "user", "content": _words(64, i)},), sampling=Sampling(max_tokens=tokens))
                 for i in range(n)]
        list(made.run([Request(row_key="first", seed=0, call=calls[0])]))
        begin = time.monotonic()
        results = list(made.run([Request(row_key=str(i), seed=i, call=call) for i, call in enumerate(calls)]))
        seconds = time.monotonic() - begin
        if failed := [r.error for r in results if r.error]:
            raise SystemExit(f"{len(failed)} of {n} calls failed: {failed[0]}")
        figures: Figures = {"tokens_s": sum(r.completion_tokens for r in results) / seconds}
        if torch.cuda.is_available():
            figures["peak_gb"] = (before - torch.cuda.mem_get_info()[0]) / 1e9
            made.close()
            figures["note"] = f"{(before - torch.cuda.mem_get_info()[0]) / 1e9:.1f} GB left after closing it"
        made.close()
        return figures

    return measure


def resume(folder: Path, smallest: bool) -> Figures:
    """A training killed after its second saved state, and run again."""
    made = job(folder, "resume", "supervised", model(folder, "tiny", smallest=True), 24, 240, batch_size=4, epochs=1,
               save_every=4)
    command = [sys.executable, "-m", "cai_assets.train", str(folder / "resume" / "job.json")]
    first = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    # With the second state the first is sealed.
    while len(list(made.state.glob("checkpoint-*/trainer_state.json"))) < 2 and first.poll() is None:
        time.sleep(0.01)
    first.kill()
    killed = first.wait()
    if killed >= 0:
        raise SystemExit(f"the training ended with {killed} before it could be killed")
    subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    metrics = json.loads(made.metrics.read_text(encoding="utf-8"))
    if not metrics["resumed_from"]:
        raise SystemExit("it began again at the first step")
    return {"note": f"went on after step {metrics['resumed_from']} of {metrics['steps']}"}


PARTS = (
    Part("engine transformers", "1B", 60, engine("1B", "transformers")),
    Part("engine vLLM", "1B", 60, engine("1B", "vllm"), needs="vllm"),
    Part("SFT, all weights", "1B", 45, supervised("1B", 8, lora=False)),
    Part("reward model, all weights", "1B", 45, reward),
    Part(GENERATE, "1B", 60, reinforcement("ppo", "transformers")),
    Part(BY_VLLM, "1B", 60, reinforcement("ppo", "vllm"), needs="vllm"),
    Part("GRPO, sampled by vLLM", "1B", 60, reinforcement("grpo", "vllm"), needs="vllm"),
    Part("resumes after a kill", "tiny", 40, resume),
    Part("SFT, LoRA", "8B", 90, supervised("8B", 4, lora=True)),
    Part("engine vLLM", "8B", 75, engine("8B", "vllm"), needs="vllm"),
)


def _line(part: Part, figures: Figures) -> str:
    def number(name: str, form: str) -> str:
        return format(figures[name], form) if name in figures else ""

    cells = [part.what, part.model, number("tokens_s", ",.0f"), number("rollouts_s", ".1f"),
             number("sampled_s", ".1f"), number("mfu", ".0f"),
             number("peak_gb", ".1f"), number("seconds", ".0f"), figures.get("note", "")]
    return f"| {' | '.join(cells)} |"


def _section(rows: list[tuple[Part, Figures]], seconds: float) -> str:
    import torch
    import transformers

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    when = datetime.now(UTC).date().isoformat()
    done = sum(not figures.get("note", "").startswith(("left out", "stopped", "failed")) for _, figures in rows)
    return "\n".join([
        f"## {when} · make gpu-check, {gpu}", "",
        f"torch {torch.__version__}, transformers {transformers.__version__}; random weights; {done} of {len(rows)} "
        f"parts in {seconds:.0f} s.", "",
        "| part | model | tokens/s | rollouts/s | sampled/s | MFU % | peak GB | seconds | |",
        "|---|---|---|---|---|---|---|---|---|", *(_line(*row) for row in rows), *_samplers(rows)])


def _samplers(rows: list[tuple[Part, Figures]]) -> Iterator[str]:
    """How much faster vLLM samples than ``generate`` in the same training, where both were measured."""
    rate = {part.what: figures["sampled_s"] for part, figures in rows if "sampled_s" in figures}
    if {GENERATE, BY_VLLM} <= rate.keys():
        yield f"\nvLLM samples {rate[BY_VLLM] / rate[GENERATE]:.1f} times as many responses a second as generate (PPO)."


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
