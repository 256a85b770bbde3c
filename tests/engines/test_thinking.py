"""How a template thinks is found by rendering it; thought and answer are told apart, and nothing of them is lost."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import chat_templates as known
import pytest
from byte_tokens import HOSTILE, byte_tokenizer, controls, templater, user
from fake_server import MODEL, serving
from hypothesis import given
from hypothesis import strategies as st
from model_fixtures import prepared_model

from cai_assets.engines import models, thinking, thoughts
from cai_assets.engines.budget import Budgeted
from cai_assets.engines.chat_template import ChatTemplate
from cai_assets.engines.models import EngineLost
from cai_assets.engines.pool import EnginePool
from cai_assets.engines.protocol import Call, Message, ModelIdentity, Request, Result, Sampling
from cai_assets.engines.scripted import Scripted
from cai_assets.engines.served.engine import ServedEngine
from cai_assets.engines.templating import Templater
from cai_assets.engines.thinking import Switch
from cai_assets.engines.thoughts import Said, split
from cai_assets.settings import Engine, Model, load_settings
from cai_assets.store.layout import Layout

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
CALL = Call(messages=(user("Is it?"),), sampling=Sampling(max_tokens=64))
ANSWER: Message = {"role": "assistant", "content": "The answer is ("}
OFF = {  # what the model is told, if it is not to think
    known.QWEN3: Switch({"enable_thinking": False}), known.SMOLLM3: Switch({"enable_thinking": False}),
    known.GPT_OSS: Switch(lead="<|channel|>final<|message|>"), known.APERTUS: Switch(), known.CLOSED: Switch(),
    known.EFFORT: Switch({"effort": "none"}), known.R1: None, known.OLMO_THINK: None}
KEEP = {known.APERTUS: {"enable_thinking": True}, known.CLOSED: {"thinking": True}}
THINKING = pytest.mark.parametrize("text", OFF)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer()


def of(tokenizer: Any, text: str, mode: str) -> Templater:
    return Templater(templater(tokenizer, text).tokenizer, mode)


def decoded(t: Templater, ids: list[int]) -> str:
    return str(t.tokenizer.decode(ids))


@THINKING
def test_what_tells_a_model_not_to_think_is_found(text: str) -> None:
    found = thinking.read(ChatTemplate(text, TOKENS))
    assert found is not None
    assert found.off == OFF[text]
    assert found.keep == Switch(KEEP.get(text, {}))


ROLES_AS_TAGS = ("{% for m in messages %}{{ '<' + m.role + '>' + m.content + '</' + m.role + '>' }}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}")


@pytest.mark.parametrize("text", [known.CHATML, known.GEMMA, known.LLAMA2, known.PARTS, known.DROPS_LAST, ROLES_AS_TAGS,
                                  None])
def test_a_template_without_a_place_for_thoughts_does_not_think(text: str | None) -> None:
    assert thinking.read(ChatTemplate(text, TOKENS)) is None


@THINKING
def test_a_model_that_is_off_begins_its_answer_outside_a_thought(tokenizer: Any, text: str) -> None:
    t = of(tokenizer, text, "off")
    prompt = decoded(t, t.encode(CALL))
    assert t.thinking
    assert prompt.count("<think>") == prompt.count("</think>") or text == known.CLOSED
    assert not prompt.rstrip().endswith(t.thinking.begin.strip())
    assert t.said(CALL, "Yes.").answer == "Yes."


@THINKING
def test_a_thought_and_an_answer_are_told_apart(tokenizer: Any, text: str) -> None:
    t = of(tokenizer, text, "keep")
    assert t.thinking
    opened = decoded(t, t.encode(CALL)).rstrip().endswith(t.thinking.begin.strip())
    written = ("" if opened else t.thinking.begin) + "First, let me see." + t.thinking.end + "Yes.<|im_end|>"
    ids = t.tokenizer.encode(written, add_special_tokens=False)
    raw = t.tokenizer.decode(ids, skip_special_tokens=not t.decode_all)
    assert t.said(CALL, raw) == Said("valid", "First, let me see.", "Yes.")


@THINKING
def test_a_thought_that_does_not_end_has_no_answer(tokenizer: Any, text: str) -> None:
    t = of(tokenizer, text, "keep")
    assert t.thinking
    said = t.said(CALL, f"{t.thinking.begin}First, let me see what there")
    assert said.state == "unclosed"
    assert said.answer == ""
    result = thoughts.result(Request(row_key="r", seed=0, call=CALL), said, "length", kept=True)
    assert "raise generation.max_tokens" in str(result.error)
    assert "generation.max_tokens" in str(result.error)
    assert result.refused
    assert result.text == ""


@THINKING
@pytest.mark.parametrize("mode", ["off", "keep"])
def test_an_answer_that_is_continued_is_not_in_a_thought(tokenizer: Any, text: str, mode: str) -> None:
    t = of(tokenizer, text, mode)
    prompt = decoded(t, t.encode_chat([user("Is it?"), ANSWER]))
    assert prompt.endswith(ANSWER["content"])
    assert t.thinking
    begin, end = t.thinking.begin.strip(), t.thinking.end.strip()
    assert prompt.rfind(begin) <= prompt.rfind(end)
    assert t.said(Call(messages=(user("Is it?"), ANSWER), sampling=Sampling()), "A)").answer == "A)"


@THINKING
@pytest.mark.parametrize("mode", ["off", "keep"])
def test_training_learns_no_empty_thought(tokenizer: Any, text: str, mode: str) -> None:
    t = of(tokenizer, text, mode)
    prompt, response = t.encode_response([user("Is it?")], "Yes.")
    learned = decoded(t, response)
    assert t.thinking
    for tag in ("<think>", "</think>", "[THINK]", "[/THINK]", t.thinking.begin.strip()):
        assert tag not in learned
    assert "Yes." in learned
    assert response[-1] in t.stop_token_ids
    start = decoded(t, prompt)
    assert start.startswith(decoded(t, t.encode(CALL)))
    assert start.rfind(t.thinking.begin.strip()) <= max(start.rfind(t.thinking.end.strip()), 0) or mode == "off"


@THINKING
def test_contents_never_become_control_tokens(tokenizer: Any, text: str) -> None:
    t = of(tokenizer, text, "keep")
    chats = [[user(content), {"role": "assistant", "content": content}, user(content)] for content in (HOSTILE, "a")]
    hostile, harmless = (controls(t, t.encode_chat(chat)) for chat in chats)
    assert hostile == harmless


BEGIN, END = thoughts.TAGS


@pytest.mark.parametrize(("text", "said"), [
    ("Yes.", Said("none", "", "Yes.")),
    (f"{BEGIN}\nwhy\n{END}\n\nYes.", Said("valid", "why", "Yes.")),
    (f"{BEGIN}\n\n{END}\n\nYes.", Said("empty", "", "Yes.")),
    (f"{BEGIN}why", Said("unclosed", "why", "")),
    (f"why{END}Yes.", Said("valid", "why", "Yes.")),
    (f"{BEGIN}why{END}Yes.{BEGIN}or{END} No.", Said("repeated", "why\n\nor", "Yes. No.")),
    (f"{BEGIN}why{END}Yes.{BEGIN}or", Said("unclosed", "why\n\nor", "")),
    (f"{BEGIN}why{BEGIN}{END}Yes.", Said("valid", "why", "Yes.")),
])
def test_the_states_of_a_thought(text: str, said: Said) -> None:
    assert split(text, *thoughts.TAGS) == said


@given(st.lists(st.sampled_from([BEGIN, END, "why", "Yes.", " ", "\n"]), max_size=8), st.booleans(), st.booleans())
def test_no_thought_is_left_in_an_answer(parts: list[str], opened: bool, anywhere: bool) -> None:
    text = "".join(parts)
    said = split(text, BEGIN, END, opened=opened, anywhere=anywhere)
    if anywhere:
        assert BEGIN not in said.answer
    if said.state == "none":
        assert said.answer == text
    words = [w for w in parts if w in ("why", "Yes.")]
    told = f"{said.thought} {said.answer}"
    assert said.state == "unclosed" or [told.count(w) for w in ("why", "Yes.")] == [
        words.count(w) for w in ("why", "Yes.")], "nothing is lost"


def test_a_tag_in_an_answer_of_a_model_that_does_not_think_is_text() -> None:
    text = f"Models write {BEGIN} before a thought."
    assert split(text, BEGIN, END, anywhere=False) == Said("none", "", text)


def test_what_is_told_is_part_of_the_identity_only_where_a_model_thinks(tmp_path: Path, tokenizer: Any) -> None:
    def told(text: str, mode: Any) -> str:
        folder = tmp_path / str(abs(hash(text)))
        templater(tokenizer, text).tokenizer.save_pretrained(folder)
        return models.told(Model(thinking=mode, thinking_tokens=9), folder)

    assert [told(known.QWEN3, m) for m in ("off", "keep", "budget")] == ["off", "keep", "budget:9"]
    assert [told(known.CHATML, m) for m in ("off", "keep", "budget")] == ["", "", ""]
    assert [told(known.APERTUS, m) for m in ("off", "keep")] == ["", "keep"], "it does not think unless told"
    plain = ModelIdentity(weights="w", tokenizer="t", template="p")
    assert "thinking" not in plain.model_dump()
    assert plain.model_copy(update={"thinking": "off"}).model_dump()["thinking"] == "off"


def test_a_model_that_cannot_be_told_not_to_think_is_refused_with_a_hint(tmp_path: Path, tokenizer: Any) -> None:
    templater(tokenizer, known.R1).tokenizer.save_pretrained(tmp_path)
    with pytest.raises(EngineLost, match=r"set models\.\*\.thinking=keep"):
        models.refuse_thinking("off", tmp_path)
    models.refuse_thinking("keep", tmp_path)


def scripted(reply: str, mode: str) -> Result:
    identity = ModelIdentity(weights="w", tokenizer="t", template="p", thinking=mode)
    engine = Scripted(identity=identity, reply=lambda *_: reply)
    (result,) = engine.run([Request(row_key="r", seed=0, call=CALL)])
    return result


def test_an_engine_keeps_a_thought_beside_its_answer_or_leaves_it_out_and_says_so() -> None:
    reply = f"{BEGIN}why not{END}Yes."
    kept, left_out = scripted(reply, "keep"), scripted(reply, "off")
    assert (kept.text, kept.thought, kept.thought_state, kept.adapted) == ("Yes.", "why not", "valid", ())
    assert (left_out.text, left_out.thought, left_out.thought_state) == ("Yes.", "", "")
    assert left_out.adapted == (thoughts.CAME,)


def replies(message: dict[str, Any], mode: Any, finish: str = "stop") -> Result:
    def rule(body: dict[str, Any], _: int) -> str:
        return "says:200 " + json.dumps({"model": MODEL, "choices": [{"finish_reason": finish, "message": message}]})

    with serving(rule) as server:
        model = Model(source=MODEL, base_urls=(server.url,), thinking=mode)  # type: ignore[arg-type]
        engine = ServedEngine(model, Engine(retries=0), first_delay=0.001)
        (result,) = engine.run([Request(row_key="r", seed=0, call=CALL)])
    return result


@pytest.mark.parametrize(("message", "mode"), [*itertools.product([
    {"content": f"{BEGIN}why{END}Yes."}, {"content": f"why{END}\n\nYes."}, {"content": "Yes.", "reasoning": "why"},
    {"content": "Yes.", "reasoning_content": "why"},
    {"content": [{"type": "thinking", "thinking": "why"}, {"type": "text", "text": "Yes."}]},
], ["off", "keep"])])
def test_a_server_s_thought_is_told_apart_however_it_comes(
    message: dict[str, Any], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    result = replies(message, mode)
    assert result.text == "Yes."
    assert (result.thought, result.thought_state) == (("why", "valid") if mode == "keep" else ("", ""))


def test_a_server_s_thought_that_does_not_end_fails_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for message in ({"content": f"{BEGIN}why"}, {"content": None, "reasoning_content": "why"}):
        result = replies(message, "off", "length")
        assert "the thought did not end" in str(result.error)
        assert "generation.max_tokens" in str(result.error)


@pytest.mark.model
def test_the_bundled_model_does_not_think_and_keeps_its_keys() -> None:
    model = prepared_model()
    assert thinking.read(ChatTemplate.in_folder(model.path)) is None
    assert models.told(Model(thinking="keep"), model.path) == ""
    assert set(model.identity.model_dump()) == {"weights", "tokenizer", "template", "dtype"}


def budgeted(reply: Any, tokens: int) -> tuple[Result, list[Request]]:
    asked: list[Request] = []

    def write(_: Call, request: Request) -> str:
        asked.append(request)
        return str(reply(request))

    found = thinking.read(ChatTemplate(known.QWEN3, TOKENS))
    assert found
    identity = ModelIdentity(weights="w", tokenizer="t", template="p", thinking=f"budget:{tokens}")
    engine = Budgeted(Scripted(identity=identity, reply=write), found, tokens)
    (result,) = engine.run([Request(row_key="r", seed=0, call=CALL)])
    return result, asked


def test_a_thought_that_reaches_its_budget_is_ended_and_answered() -> None:
    result, (first, second) = budgeted(
        lambda r: f"{BEGIN}one two three four five" if r.only_thought else "Yes.", 3)
    assert (result.text, result.thought, result.thought_state) == ("Yes.", "one two three", "valid")
    assert (first.call.sampling and first.call.sampling.max_tokens, second.thought) == (3, "one two three")
    assert second.call == CALL, "the answer has all tokens of its own"
    assert result.completion_tokens == 3 + 1


def test_a_thought_within_its_budget_and_none_at_all() -> None:
    result, _ = budgeted(lambda r: f"{BEGIN}so{END}" if r.only_thought else "Yes.", 9)
    assert (result.text, result.thought) == ("Yes.", "so")
    result, _ = budgeted(lambda _: "Yes.", 9)
    assert (result.text, result.thought_state) == ("Yes.", "none")


@THINKING
def test_the_prompt_of_an_answer_holds_the_ended_thought(tokenizer: Any, text: str) -> None:
    t = of(tokenizer, text, "budget:9")
    prompt = decoded(t, t.encode_within(CALL, 4096, "Let me see."))
    assert t.thinking
    start = decoded(t, t.encode(CALL))
    assert prompt.startswith(start)
    assert prompt.count("Let me see.") == 1
    assert prompt.rstrip().endswith(t.thinking.end.strip())
    assert t.said(CALL, "Yes.", "Let me see.") == Said("valid", "Let me see.", "Yes.")


@pytest.mark.model
@pytest.mark.parametrize("mode", ["off", "keep", "budget"])
def test_the_real_model_with_a_template_that_thinks(tmp_path: Path, mode: Any) -> None:
    for file in prepared_model().path.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    (tmp_path / "chat_template.jinja").write_text(known.R1 if mode == "budget" else known.QWEN3)
    settings = load_settings({"data_root": str(tmp_path / "data"), "engine": {"max_model_len": 512}})
    pool = EnginePool(settings, Layout(tmp_path / "data"))
    model = Model(source=str(tmp_path), backend="transformers", thinking=mode, thinking_tokens=8)
    call = Call(messages=(user("What color is the sky?"),), sampling=Sampling(max_tokens=12))
    engine = pool.open(model)
    (result,) = engine.run([Request(row_key="r", seed=1, call=call)])
    pool.close()
    assert engine.identity.thinking == {"budget": "budget:8"}.get(mode, mode)
    assert result.error is None
    assert result.text
    assert "<think>" not in result.text
    if mode == "budget":
        assert result.thought_state == "valid"
        assert result.completion_tokens <= 8 + 12
