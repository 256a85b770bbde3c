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

# Thinking families. The text of a thought is split off earlier answers; each differs in how it is told.
STRIP = ("{% if m.role == 'assistant' and '</think>' in m.content %}{% set content = "
         "m.content.split('</think>')[-1].lstrip('\n') %}{% else %}{% set content = m.content %}{% endif %}")
# An empty thought where it is switched off; a field for thoughts; before the last answer one always (Qwen3).
QWEN3 = (
    "{% for m in messages %}" + STRIP + "{% if m.reasoning_content is string %}"
    "{% set reasoning = m.reasoning_content %}{% else %}{% set reasoning = '' %}{% endif %}"
    "{% if m.role == 'assistant' and (loop.last or reasoning) %}"
    "{{ '<|im_start|>assistant\n<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' + content + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking "
    "is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
# Every answer begins inside a thought, and nothing says otherwise (DeepSeek R1).
R1 = (
    "{{ bos_token }}{% for m in messages %}" + STRIP + "{{ '<|im_start|>' + m.role + '\n' + content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
# The same without a place for earlier thoughts (Olmo 3 Think).
OLMO_THINK = CHATML.replace("<|im_start|>assistant\n' }}{% endif %}", "<|im_start|>assistant\n<think>' }}{% endif %}")
# A preface says /think or /no_think, and the latter also begins answers with an empty thought (SmolLM3).
SMOLLM3 = (
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
    "{{ '<|im_start|>system\n## Metadata\nReasoning Mode: ' + ('/think' if enable_thinking else '/no_think') + '\n' "
    "+ (messages[0].content if messages[0].role == 'system' else 'You are a helpful assistant.') + '<|im_end|>\n' }}"
    "{% for m in messages if m.role != 'system' %}{% if m.role == 'assistant' and not enable_thinking %}"
    "{{ '<|im_start|>assistant\n<think>\n\n</think>\n' + m.content.lstrip('\n') + '<|im_end|>\n' }}{% else %}"
    + TURN + "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if not enable_thinking %}{{ '<think>\n\n</think>\n' }}{% endif %}{% endif %}"
)
# Channels of control tokens; the thought of the last answer alone is written; effort, but no switch (gpt-oss).
GPT_OSS = (
    "{{ '<|start|>system<|message|>Reasoning: ' + (reasoning_effort if reasoning_effort is defined else 'medium') "
    "+ '\n# Valid channels: analysis, commentary, final.<|end|>' }}{% for m in messages %}"
    "{% if m.role == 'assistant' %}{% if loop.last and not add_generation_prompt and 'thinking' in m %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last and not "
    "add_generation_prompt else '<|end|>') }}{% else %}{{ '<|start|>' + ('developer' if m.role == 'system' else m.role)"
    " + '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
# Deliberation is said in a preface and is off unless asked for; thoughts are blocks of a content (Apertus).
APERTUS = (
    "{{ bos_token + '<|developer_start|>Deliberation: ' + ('enabled' if enable_thinking is defined and enable_thinking "
    "else 'disabled') + '<|developer_end|>' }}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ '<|assistant_start|>' }}{% if m.content is mapping %}{% set ns = namespace(inner=false) %}"
    "{% for block in m.content.blocks %}{% if block.type == 'thoughts' %}{{ '<|inner_prefix|>' + block.text }}"
    "{% set ns.inner = true %}{% elif block.type == 'response' %}{{ ('<|inner_suffix|>' if ns.inner else '') "
    "+ block.text }}{% endif %}{% endfor %}{% else %}{{ m.content }}{% endif %}{{ '<|assistant_end|>' }}{% else %}"
    "{{ '<|' + m.role + '_start|>' + m.content + '<|' + m.role + '_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant_start|>' }}{% endif %}"
)
# Off by itself: the answer begins behind a closing tag; a variable opens a thought instead (DeepSeek V3.1).
CLOSED = (
    "{% for m in messages %}" + STRIP + "{{ '<|im_start|>' + m.role + '\n' "
    "+ ('</think>' if m.role == 'assistant' else '') + content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "+ ('<think>' if thinking is defined and thinking else '</think>') }}{% endif %}"
)
# Other tags, switched by a word (Granite, Seed and other families have rules of this kind).
EFFORT = (
    "{% for m in messages %}" + TURN + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if effort is defined and effort == 'none' %}{{ '[THINK][/THINK]' }}{% else %}{{ '[THINK]' }}{% endif %}"
    "{% endif %}"
)
