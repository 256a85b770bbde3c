"""No content becomes a control token, and benign contents give what the model's own template gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from byte_tokens import HOSTILE, MARKERS, byte_tokenizer, controls, templater, user
from model_fixtures import prepared_model

from cai_assets.engines.protocol import Call, Sampling
from cai_assets.engines.templating import HUMAN, Templater, load_tokenizer, neutralize

SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}"
    "{{ m.content | trim }}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant roles are supported') }}{% endif %}{% endfor %}"
)

@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer()


KNOWN = {"smollm": SMOLLM, "llama": LLAMA, "mistral": MISTRAL, "base": None}
TEMPLATES = pytest.mark.parametrize("template", KNOWN.values(), ids=KNOWN)


@TEMPLATES
@pytest.mark.parametrize("content", [HOSTILE, *MARKERS, "<|im_start|><|im_start|>", "<<|im_start|>", "", " \n "])
def test_content_never_becomes_a_control_token(tokenizer: Any, template: str | None, content: str) -> None:
    t = templater(tokenizer, template)
    chat = [user(content), {"role": "assistant", "content": content}, user(content)]
    benign = [user("a"), {"role": "assistant", "content": "a"}, user("a")]
    assert controls(t, t.encode_chat(chat)) == controls(t, t.encode_chat(benign))
    _, response = t.encode_response([user("q")], content)
    assert controls(t, response) == response[-1:]
    if content.strip():
        assert controls(t, t.encode(Call(messages=(user(content),), style="plain", sampling=Sampling()))) == []


@TEMPLATES
def test_content_survives_unchanged(tokenizer: Any, template: str | None) -> None:
    t = templater(tokenizer, template)
    assert HOSTILE in t.tokenizer.decode(t.encode_chat([user(HOSTILE)]))


@pytest.mark.parametrize("template", [SMOLLM, LLAMA, MISTRAL])
@pytest.mark.parametrize("content", ["Hello there", "  spaced \n", "two\n\nparagraphs", "é 日本 🙂"])
def test_benign_content_gives_the_ids_of_the_template(tokenizer: Any, template: str, content: str) -> None:
    t = templater(tokenizer, template)
    chat = [user(content), {"role": "assistant", "content": "Yes."}, user(content)]
    stock = t.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert t.encode_chat(chat) == t.tokenizer.encode(stock, add_special_tokens=False)


@TEMPLATES
def test_training_and_sampling_share_their_tokens(tokenizer: Any, template: str | None) -> None:
    t = templater(tokenizer, template)
    prompt, response = t.encode_response([user("Hi?")], "Well, yes.")
    assert prompt == t.encode(Call(messages=(user("Hi?"),), sampling=Sampling()))
    assert response[-1] in t.stop_token_ids
    assert controls(t, response) == [response[-1]]
    full = t.encode_chat([user("Hi?"), {"role": "assistant", "content": "Well, yes."}])
    assert full == prompt + response[:-1]


@TEMPLATES
def test_a_last_assistant_message_is_left_open(tokenizer: Any, template: str | None) -> None:
    t = templater(tokenizer, template)
    ids = t.encode_chat([user("Choose."), {"role": "assistant", "content": "The answer is"}])
    assert t.tokenizer.decode(ids).endswith("The answer is")


def test_end_of_turn_is_read_from_the_template(tokenizer: Any) -> None:
    name = templater(tokenizer, LLAMA).tokenizer.convert_tokens_to_ids
    assert set(templater(tokenizer, LLAMA).stop_token_ids) == {name("</s>"), name("<|eot_id|>")}
    assert set(templater(tokenizer, SMOLLM).stop_token_ids) == {name("</s>"), name("<|im_end|>")}
    assert set(templater(tokenizer, MISTRAL).stop_token_ids) == {name("</s>")}


def test_base_model_is_framed_and_stops_at_the_next_human_turn(tokenizer: Any) -> None:
    t = templater(tokenizer, None)
    call = Call(messages=(user("Hi"),), sampling=Sampling(stop=("END",)))
    assert t.tokenizer.decode(t.encode(call)) == "\n\nHuman: Hi\n\nAssistant:"
    assert t.stops(call) == ("END", HUMAN)
    assert templater(tokenizer, SMOLLM).stops(call) == ("END",)
    assert t.stops(Call(messages=(user("Hi"),), style="plain", sampling=Sampling())) == ()


def test_refusals_name_the_reason(tokenizer: Any) -> None:
    refuses = "{{ raise_exception('only user and assistant roles are supported') }}"
    with pytest.raises(ValueError, match="only user and assistant"):
        templater(tokenizer, refuses).encode_chat([{"role": "system", "content": "x"}, user("y")])
    with pytest.raises(ValueError, match="not valid Unicode"):
        templater(tokenizer, SMOLLM).encode_chat([user("lone \ud800 surrogate")])
    with pytest.raises(ValueError, match="empty"):
        templater(tokenizer, SMOLLM).encode(Call(messages=(user(""),), style="plain", sampling=Sampling()))


def test_answers_must_differ_in_their_first_token(tokenizer: Any) -> None:
    t = templater(tokenizer, SMOLLM)
    assert len(set(t.answer_tokens(["A", "B"]))) == 2
    for answers in (["(A)", "(B)"], ["", "B"], ["A", "A"]):
        with pytest.raises(ValueError, match="first token"):
            t.answer_tokens(answers)


def test_dates_in_a_template_do_not_depend_on_the_day(tokenizer: Any) -> None:
    t = templater(tokenizer, "{{ strftime_now('%d %b %Y') }} {% for m in messages %}{{ m.content }}{% endfor %}")
    assert t.tokenizer.decode(t.encode_chat([user("x")])).startswith("26 Jul 2024")


def test_neutralize_breaks_look_alikes_only() -> None:
    for marker in ["<|im_start|>", "<｜User｜>", "[INST]", "[/INST]", "<s>", "</s>", "<<SYS>>", "<</SYS>>"]:
        assert marker not in neutralize(f"a {marker} b")
        assert neutralize(f"a {marker} b").replace("\u2060", "") == f"a {marker} b"
    for text in ["1 < 2", "a[i]", "<b>bold</b>", "[NOTE] x", json.dumps({"a": [1]})]:
        assert neutralize(text) == text


@pytest.mark.model
def test_the_real_tokenizer_and_template() -> None:
    t = Templater(load_tokenizer(prepared_model().path))
    chat = [user("Hello there"), {"role": "assistant", "content": "Yes."}, user("two\n\nparagraphs é🙂")]
    stock = t.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert t.encode_chat(chat) == t.tokenizer.encode(stock, add_special_tokens=False)
    assert controls(t, t.encode_chat([user(HOSTILE)])) == controls(t, t.encode_chat([user("a")]))
    assert len(set(t.answer_tokens([" A", " B"]))) == 2
