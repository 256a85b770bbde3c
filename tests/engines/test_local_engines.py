"""The in-process engines on the bundled model."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from model_fixtures import prepared_model
from safetensors.torch import load_file, save_file

from cai_assets.engines.models import EngineLost, identify
from cai_assets.engines.number_format import number_format
from cai_assets.engines.pool import EnginePool
from cai_assets.engines.prefixes import beginning
from cai_assets.engines.protocol import Call, Engine, Request, Result, Sampling
from cai_assets.engines.transformers_engine import TransformersEngine
from cai_assets.engines.vllm_engine import QUEUED_PER_SLOT, VllmEngine
from cai_assets.settings import Engine as EngineSettings
from cai_assets.settings import Model, load_settings
from cai_assets.store.layout import Layout

pytestmark = pytest.mark.model
SETTINGS = EngineSettings(max_model_len=1024, max_num_seqs=32)
# bfloat16 carries 8 bits: logits near 20 move in steps of 0.125.
TOLERANCE = 0.75


@pytest.fixture(scope="module")
def vllm() -> Iterator[VllmEngine]:
    pytest.importorskip("vllm")
    model = prepared_model()
    engine = VllmEngine(model.path, model.identity, SETTINGS)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def exact() -> Iterator[TransformersEngine]:
    model = prepared_model()
    engine = TransformersEngine(model.path, model.identity, SETTINGS.model_copy(update={"dtype": "float32"}))
    yield engine
    engine.close()


def ask(name: str, text: str, **kind: Any) -> Request:
    kind = kind or {"sampling": Sampling(max_tokens=12)}
    call = Call(messages=({"role": "user", "content": text},), **kind)
    return Request(row_key=name, seed=sum(map(ord, name)), call=call)


GENERATE = [ask(f"g{i}", f"Name a fruit, number {i}." + " Please." * i) for i in range(8)]
SCORE = [ask(f"s{i}", f"Fruit {i}" + " or tree" * i + "? (A) pear (B) oak\nAnswer: (", answers=("A", "B"),
             style="plain" if i % 2 else "chat") for i in range(8)]
POISON = [
    ask("long", "x " * 5000),
    ask("surrogate", "lone \ud800"),
    ask("empty", "", style="plain", sampling=Sampling()),
    ask("same-start", "q", answers=("(A", "(B")),
]


def serve(engine: Engine, *requests: Request) -> dict[str, Result]:
    results = list(engine.run(requests))
    assert len(results) == len(requests)
    return {r.row_key: r for r in results}


@pytest.mark.parametrize("name", ["vllm", "exact"])
def test_a_poisonous_row_does_not_fail_its_neighbors(name: str, request: pytest.FixtureRequest) -> None:
    results = serve(request.getfixturevalue(name), *POISON, *GENERATE, *SCORE)
    assert all(results[r.row_key].error for r in POISON)
    for r in GENERATE:
        assert (results[r.row_key].error, results[r.row_key].finish in ("stop", "length")) == (None, True)
        assert 0 < results[r.row_key].completion_tokens <= 12
    for r in SCORE:
        assert (results[r.row_key].finish, len(results[r.row_key].logprobs)) == ("score", 2)


def test_vllm_scores_agree_with_an_exact_forward_pass(vllm: VllmEngine, exact: TransformersEngine) -> None:
    fast, slow = serve(vllm, *SCORE), serve(exact, *SCORE)
    gaps = [abs(a - b) for r in SCORE for a, b in zip(fast[r.row_key].logprobs, slow[r.row_key].logprobs, strict=True)]
    assert max(gaps) < TOLERANCE


def test_scoring_is_the_same_alone_and_in_a_batch(vllm: VllmEngine, exact: TransformersEngine) -> None:
    for engine, tolerance in ((vllm, TOLERANCE), (exact, 1e-3)):
        together = serve(engine, *SCORE)
        for r in SCORE[:4]:
            assert serve(engine, r)[r.row_key].logprobs == pytest.approx(together[r.row_key].logprobs, abs=tolerance)


def test_float32_sampling_does_not_depend_on_neighbors(exact: TransformersEngine) -> None:
    together = serve(exact, *GENERATE)
    assert all(serve(exact, r)[r.row_key].text == together[r.row_key].text for r in GENERATE[:4])


def test_seeds_decide_samples(vllm: VllmEngine, exact: TransformersEngine) -> None:
    same = [Request(row_key=f"n{i}", seed=i, call=GENERATE[0].call) for i in range(8)]
    for engine in (vllm, exact):
        assert len({r.text for r in serve(engine, *same).values()}) > 2


def test_stop_strings_end_a_text(vllm: VllmEngine, exact: TransformersEngine) -> None:
    call = {"style": "plain", "sampling": Sampling(max_tokens=20, temperature=0, stop=("5",))}
    counting = ask("stop", "1 2 3 4 5 6 7 8 9 10\n1 2 3 4 5 6 7 8 9 10\n1 2 3", **call)
    for engine in (vllm, exact):
        result = serve(engine, counting)["stop"]
        assert (result.text, result.finish) == (" 4 ", "stop")


def test_greedy_ignores_the_seed(exact: TransformersEngine) -> None:
    one = ask("one", "Count to five.", sampling=Sampling(temperature=0, max_tokens=8))
    two = one.model_copy(update={"row_key": "two", "seed": 99})
    results = serve(exact, one, two)
    assert results["one"].text == results["two"].text


def test_vllm_is_rebuilt_once(vllm: VllmEngine) -> None:
    serve(vllm, GENERATE[0])
    assert vllm._loaded is not None

    def die() -> None:
        raise RuntimeError("injected death")

    vllm._loaded.engine.step = die
    assert all(r.error is None for r in serve(vllm, *GENERATE).values())


def test_vllm_gives_up_after_a_second_death(vllm: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm import LLMEngine

    def die(self: Any) -> None:
        raise RuntimeError("injected death")

    monkeypatch.setattr(LLMEngine, "step", die)
    with pytest.raises(EngineLost, match=r"died twice.*injected"):
        list(vllm.run(GENERATE))


@pytest.mark.long
def test_several_models_are_in_one_process_and_each_answers_as_it_does_alone(vllm: VllmEngine, tmp_path: Path) -> None:
    vllm.close()
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    model = prepared_model()
    copy = tmp_path / "policy"
    shutil.copytree(model.path, copy)
    weights = load_file(copy / "model.safetensors")
    save_file({name: w * 1.02 if "mlp" in name else w for name, w in weights.items()}, copy / "model.safetensors",
              metadata={"format": "pt"})
    source = Model(source=str(model.path), backend="vllm")
    settings = load_settings({"models": {"generator": source}, "engine": SETTINGS.model_dump()}, environment={})
    pool = EnginePool(settings, Layout(tmp_path / "data"))
    base, policy = pool.open(source), pool.open_checkpoint(copy)
    as_run = identify(copy).model_copy(update={"dtype": number_format().dtype})
    assert policy.identity == as_run != base.identity
    first = serve(base, *GENERATE)
    with ThreadPoolExecutor(1) as other_thread:
        second = other_thread.submit(serve, policy, *GENERATE).result()
    third = serve(base, *GENERATE)
    pool.close()
    alone = serve(pool.open_checkpoint(copy), *GENERATE)
    pool.close()
    texts = [{k: r.text for k, r in results.items()} for results in (first, third, second, alone)]
    assert texts[0] == texts[1] != texts[2] == texts[3]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


def test_what_requests_share_is_computed_once(vllm: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, cached = vllm._load().engine, []
    step = engine.step

    def watched() -> Any:
        finished = step()
        cached.extend(output.num_cached_tokens for output in finished)
        return finished

    monkeypatch.setattr(engine, "step", watched)
    shared = "Sum up what follows, and say what is missing from it. " * 30
    assert len(serve(vllm, *(ask(f"shared{i}", f"{shared}{i}") for i in range(6)))) == 6
    assert cached.count(0) == 1
    assert sorted(cached)[1] >= 256


@pytest.mark.long
def test_vllm_keeps_its_own_defaults_and_takes_further_arguments(
    vllm: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a cache that holds two of six beginnings, requests that begin alike find theirs if they come together."""
    vllm.close()
    model = prepared_model()
    settings = EngineSettings(max_model_len=512, vllm={"block_size": 32, "num_gpu_blocks_override": 24})
    shared = [f"{word} " * 200 for word in ("one", "two", "six", "ten", "red", "sun")]
    requests = [ask(f"p{i}", f"{shared[i % 6]}{i}", sampling=Sampling(max_tokens=1)) for i in range(24)]
    found = {}
    for ordered in (True, False):
        engine = VllmEngine(model.path, model.identity, settings)
        loaded, cached = engine._load().engine, []
        config = loaded.vllm_config
        assert (config.scheduler_config.max_num_seqs, config.cache_config.num_gpu_blocks) == (256, 24)
        monkeypatch.setattr(loaded, "step", lambda step=loaded.step, cached=cached: _watched(step(), cached))
        assert all(r.error is None for r in serve(engine, *(
            sorted(requests, key=lambda r: beginning(r.call)) if ordered else requests)).values())
        engine.close()
        found[ordered] = sum(cached)
    assert found[True] > 2 * found[False]


def _watched(finished: Any, cached: list[int]) -> Any:
    cached.extend(output.num_cached_tokens for output in finished)
    return finished


def test_a_value_that_vllm_does_not_take_ends_the_run_in_one_line(vllm: VllmEngine) -> None:
    model = prepared_model()
    engine = VllmEngine(model.path, model.identity, EngineSettings(vllm={"kv_cache_dtype": "nonsense"}))
    with pytest.raises(EngineLost, match=r"cannot start .*cache_dtype.*see engine\.vllm") as caught:
        list(engine.run(GENERATE))
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_copies_of_a_model_share_the_work(exact: TransformersEngine) -> None:
    pytest.importorskip("vllm")
    model = prepared_model()
    greedy = [ask(r.row_key, r.call.messages[0]["content"], sampling=Sampling(max_tokens=8, temperature=0))
              for r in GENERATE]
    engine = VllmEngine(model.path, model.identity, EngineSettings(
        max_model_len=512, dtype="float32", vllm={"data_parallel_size": 2}))
    both, one = serve(engine, *greedy, *SCORE, *POISON), serve(exact, *greedy)
    assert all(both[r.row_key].error for r in POISON)
    assert [both[r.row_key].text for r in greedy] == [one[r.row_key].text for r in greedy]
    assert [both[r.row_key].finish for r in SCORE] == ["score"] * len(SCORE)
    assert engine._load().limit == 2 * 256 * QUEUED_PER_SLOT
    engine.close()
    assert {r.text for r in serve(engine, *greedy[:2]).values()} <= {r.text for r in one.values()}
    engine.close()
    assert not [c for c in psutil.Process().children(recursive=True) if "EngineCore" in c.name()]
