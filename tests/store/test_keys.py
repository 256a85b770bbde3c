"""Laws 1 and 2: whatever can change an output changes its key, and nothing else does."""

from __future__ import annotations

import json

import pytest

from cai_assets.engines.keys import Payloads, request_for, row_payload
from cai_assets.engines.protocol import Call, ModelIdentity, Sampling
from cai_assets.store.canonical import canonical_json, tagged_hash
from cai_assets.store.keys import payload_key, row_id
from cai_assets.train.identity import checkpoint_key

MODEL = ModelIdentity(weights="w", tokenizer="t", template="c")
CALL = Call(messages=({"role": "user", "content": "Hello"},), sampling=Sampling())


def key(step: str = "respond", version: int = 1, call: Call = CALL, model: ModelIdentity = MODEL, seed: int = 0) -> str:
    return payload_key(row_payload(step, version, call, model, seed))


def changed(**update: object) -> Call:
    return CALL.model_copy(update=update)


@pytest.mark.parametrize("other", [
    key(step="critique"), key(version=2), key(seed=1),
    key(model=MODEL.model_copy(update={"weights": "x"})), key(model=MODEL.model_copy(update={"tokenizer": "x"})),
    key(model=MODEL.model_copy(update={"template": "x"})),
    key(call=changed(messages=({"role": "user", "content": "Hello "},))),
    key(call=changed(messages=({"role": "assistant", "content": "Hello"},))),
    key(call=changed(style="plain")), key(call=changed(sample=1)),
    key(call=changed(sampling=Sampling(temperature=0.8))), key(call=changed(sampling=Sampling(top_p=0.9))),
    key(call=changed(sampling=Sampling(max_tokens=9))), key(call=changed(sampling=Sampling(stop=("x",)))),
    key(call=Call(messages=CALL.messages, answers=("A", "B"))),
])
def test_every_part_of_a_call_is_in_its_key(other: str) -> None:
    assert other != key()


NASTY = Call(
    messages=({"role": "system", "content": "naïve 👩‍👧 \u2028\n\"\\"}, {"role": "user", "content": ""}), style="plain",
    sample=3, sampling=Sampling(temperature=1, top_p=0.1, max_tokens=7, stop=("\n=====", "é")))


@pytest.mark.parametrize(("payload", "wanted"), [
    (row_payload("respond", 1, CALL, MODEL, 0), "r1:ca8cd7990ccc0508ca7109cb2451114a"),
    (row_payload("critique", 2, NASTY, MODEL.model_copy(update={"dtype": "bfloat16"}), 202648),
     "r1:8c3aad379c68ac1f181bcd14504f5520"),
    (row_payload("label", 1, Call(messages=CALL.messages, answers=("A", "B")), MODEL, 7),
     "r1:38a242c5729cd22136c353b7bfd1689f"),
])
def test_keys_are_pinned(payload: str, wanted: str) -> None:
    # Golden: if one changes, every row stored so far becomes unreachable.
    assert payload_key(payload) == wanted
    assert tagged_hash("r1", json.loads(payload)) == wanted


@pytest.mark.parametrize("call", [
    CALL, NASTY, Call(messages=CALL.messages, answers=("A", ' "B"\n', "\x00\x7f\ud7ff\U0010ffff")),
    Call(messages=NASTY.messages * 3, sampling=Sampling(temperature=1e-7, top_p=1 / 3)),
    *(Call(messages=({"role": "user", "content": chr(c) + "\\" + chr(c + 1)},), sampling=Sampling())
      for c in (*range(0, 0xA0), 0x2028, 0xFEFF, 0xFFFE, 0x1F600)),
])
def test_a_payload_is_the_canonical_form_of_all_that_there_is_to_a_call(call: Call) -> None:
    # What is written part by part must be what is written at once; a new field of a call must not be forgotten.
    payloads = Payloads("step", 3, MODEL, 17)
    payloads(changed(sampling=Sampling().model_copy(update={"top_p": 1})))  # equal to another, written differently
    whole = {"step": "step", "version": 3, "model": MODEL.model_dump(), "call": call.model_dump(), "seed": 17}
    assert payloads(call) == payloads(call) == canonical_json(whole)


def test_the_key_gives_the_seed() -> None:
    request = request_for(key(), CALL)
    assert request.row_key == key()
    assert 0 <= request.seed < 2**28
    assert request.seed == int(request.row_key[-7:], 16)


@pytest.mark.parametrize("parts", [("r1:a", None, []), ("", 'naïve "\\\n👩', ["i1:b", "2"])])
def test_a_row_id_is_a_tagged_hash(parts: tuple[str, str | None, list[str]]) -> None:
    assert row_id(*parts) == tagged_hash("i1", list(parts))


def test_row_id_follows_parents_and_output() -> None:
    assert row_id("r1:a", "x", ["p"]) == row_id("r1:a", "x", ["p"])
    assert len({row_id("r1:a", "x", ["p"]), row_id("r1:a", "y", ["p"]), row_id("r1:a", "x", ["q"]),
                row_id("r1:a", None, ["p"])}) == 4


def test_every_part_of_a_training_is_in_its_key() -> None:
    base = {"kind": "supervised", "code_version": 1, "rows": "t1:a", "base": MODEL, "settings": {"lr": 1.0}, "seed": 0}
    changes = [{"kind": "reward"}, {"code_version": 2}, {"rows": "t1:b"}, {"seed": 1}, {"settings": {"lr": 2.0}},
               {"base": MODEL.model_copy(update={"weights": "x"})}, {"extra": {"reward_model": "k1:z"}}]
    keys = {checkpoint_key(**{**base, **change}) for change in [{}, *changes]}  # type: ignore[arg-type]
    assert len(keys) == len(changes) + 1
