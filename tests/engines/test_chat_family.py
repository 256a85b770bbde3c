"""What a template does is found by rendering it; texts that it has no place for keep their place in the prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import chat_templates as known
import pytest
from byte_tokens import HOSTILE, byte_tokenizer, controls, templater, user

from cai_assets.engines import chat_family
from cai_assets.engines.chat_family import Family
from cai_assets.engines.chat_template import ChatTemplate
from cai_assets.engines.model_check import of_folder, of_template, troubles
from cai_assets.engines.protocol import Call, Message, Sampling

SYSTEM: Message = {"role": "system", "content": "Answer in one word."}
ANSWER: Message = {"role": "assistant", "content": "Yes, because"}
FOUND = {
    known.CHATML: Family(),
    known.GEMMA: Family(system="refused", repeats="refused", bos=True),
    known.LLAMA2: Family(bos=True),
    known.DROPS_SYSTEM: Family(system="dropped"),
    known.PARTS: Family(parts=True),
    known.DROPS_LAST: Family(last="dropped"),
    known.REFUSES_LAST: Family(last="refused"),
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer()


@pytest.mark.parametrize(("text", "family"), FOUND.items())
def test_a_family_is_what_its_template_does(text: str, family: Family) -> None:
    assert chat_family.read(ChatTemplate(text, {"bos_token": "<s>", "eos_token": "</s>"})) == family


@pytest.mark.parametrize("text", FOUND)
def test_every_text_is_in_the_prompt_once_and_an_answer_is_left_open(tokenizer: Any, text: str) -> None:
    t = templater(tokenizer, text)
    chats = [[SYSTEM, user("Is it?")], [SYSTEM, user("One."), user("Two."), ANSWER], [user("Is it?"), ANSWER],
             [user("Is it?"), {"role": "assistant", "content": "Yes."}, user("Why?")]]
    for chat in chats:
        prompt = t.tokenizer.decode(t.encode_chat(chat))
        assert [prompt.count(m["content"]) for m in chat] == [1] * len(chat), prompt
        assert prompt.endswith(ANSWER["content"]) == (chat[-1] is ANSWER)


@pytest.mark.parametrize("text", FOUND)
def test_what_is_adapted_stays_content(tokenizer: Any, text: str) -> None:
    t = templater(tokenizer, text)

    def chat(content: str) -> list[Message]:
        return [{"role": "system", "content": content}, user(content), {"role": "assistant", "content": content}]

    assert controls(t, t.encode_chat(chat(HOSTILE))) == controls(t, t.encode_chat(chat("a")))


@pytest.mark.parametrize("text", FOUND)
def test_training_ends_an_answer_as_the_template_does(tokenizer: Any, text: str) -> None:
    t = templater(tokenizer, text)
    prompt, response = t.encode_response([SYSTEM, user("Is it?")], "Yes.")
    assert prompt == t.encode_chat([SYSTEM, user("Is it?")])
    end = "</s>" if text == known.LLAMA2 else "<|im_end|>"
    assert t.tokenizer.decode(response).strip() == f"Yes.{end}" or t.tokenizer.decode(response).strip() == f"Yes. {end}"
    assert response[-1] in t.stop_token_ids


def test_what_is_adapted_is_said_with_the_reason(tokenizer: Any) -> None:
    t = templater(tokenizer, known.GEMMA)
    call = Call(messages=(SYSTEM, user("Is it?")), sampling=Sampling())
    (said,) = t.adapted(call)
    assert "joined to the first turn of the user" in said
    assert "refuses a system turn" in said
    assert t.adapted(call.model_copy(update={"messages": (user("Is it?"),)})) == ()
    assert t.adapted(call.model_copy(update={"style": "plain"})) == ()
    twice = t.adapted(call.model_copy(update={"messages": (user("One."), user("Two."))}))
    assert twice == ("neighboring turns of one role are joined, because the chat template refuses them",)
    written = templater(tokenizer, known.DROPS_LAST).adapted(Call(messages=(user("?"), ANSWER), answers=("A", "B")))
    assert "drops it there" in written[0]


def test_a_template_that_takes_all_has_no_troubles() -> None:
    assert troubles(of_template(ChatTemplate(known.CHATML, {}))) == []
    assert troubles(of_template(ChatTemplate(known.GEMMA, {"bos_token": "<s>"}))) == [
        "system turn: refused; its text is joined to the first turn of the user",
        "two turns of one role in a row: refused; they are joined"]


def test_a_turn_is_never_left_out_in_silence(tokenizer: Any) -> None:
    late = [SYSTEM, {"role": "assistant", "content": "Hello."}, user("Is it?")]
    with pytest.raises(ValueError, match="leaves out a turn of the system"):
        templater(tokenizer, known.LLAMA2).encode_chat(late)


def test_a_broken_template_is_told_by_its_own_sentence(tokenizer: Any) -> None:
    t = templater(tokenizer, "{% for m in messages %}{{ m.content }")
    with pytest.raises(ValueError, match="the chat template refuses these messages"):
        t.encode_chat([user("x")])


def test_generation_blocks_and_loop_controls_render(tokenizer: Any) -> None:
    text = ("{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{% generation %}{{ m.content }}"
            "{% endgeneration %}{% endfor %}")
    assert ChatTemplate(text, {}).render([SYSTEM, user("x")], prompt=True) == "x"
    t = templater(tokenizer, text)
    assert t.tokenizer.decode(t.encode_chat([SYSTEM, user("x")])) == "Answer in one word.\n\nx"


def test_a_folder_says_the_same_as_its_loaded_tokenizer(tokenizer: Any, tmp_path: Path) -> None:
    t = templater(tokenizer, known.GEMMA)
    t.tokenizer.save_pretrained(tmp_path)
    folder = ChatTemplate.in_folder(tmp_path)
    assert folder.text == t.template.text
    assert folder.render([user("x")], prompt=True) == t.template.render([user("x")], prompt=True)


def test_named_templates_are_read_by_their_default(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": known.CHATML}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert ChatTemplate.in_folder(tmp_path).text == known.CHATML


def test_a_folder_that_cannot_be_loaded_says_only_that(tmp_path: Path) -> None:
    (finding, *_) = of_folder(tmp_path)
    assert finding.found == "not a model that can be loaded"
    assert "is empty" in finding.hint
