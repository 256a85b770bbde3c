"""Chat templates with the rules of public families, written for these tests."""

from __future__ import annotations

TURN = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
BEGIN = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
CHATML = "{% for m in messages %}" + TURN + "{% endfor %}" + BEGIN

# No system turn, strictly alternating, 'model' for the assistant, BOS written, end of turn that is not EOS (Gemma 2).
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<|im_start|>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
# The system text inside the first turn of the user, by the template itself (Llama 2).
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set text = messages[0]['content'] %}{% set turns = messages[1:] %}"
    "{% else %}{% set text = '' %}{% set turns = messages %}{% endif %}{% for m in turns %}"
    "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + ('<<SYS>>\n' + text + '\n<</SYS>>\n\n' if loop.first and text "
    "else '') + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
# A system turn is left out without a word.
DROPS_SYSTEM = "{% for m in messages if m.role != 'system' %}" + TURN + "{% endfor %}" + BEGIN
# Contents are lists of parts; a text is gone through letter by letter (vision families).
PARTS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}" + BEGIN
)
# An answer at the end is left out: the template goes from user to user.
DROPS_LAST = (
    "{% for m in messages %}{% if not (loop.last and m.role == 'assistant') %}" + TURN
    + "{% endif %}{% endfor %}" + BEGIN
)
# An answer at the end is refused (Mistral's newer templates).
REFUSES_LAST = (
    "{% if messages[-1].role == 'assistant' and not add_generation_prompt %}"
    "{{ raise_exception('Expected last role User or Tool (or Assistant with prefix True) for serving') }}{% endif %}"
    + CHATML
)
