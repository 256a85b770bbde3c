"""The JSON Schema of a constitution's tests, for editors.

Generated as that of a constitution is (``schema.py``); ``python -m cai_assets.constitution.cases_schema`` writes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cai_assets.constitution.cases import Cases
from cai_assets.constitution.pattern import MOST_WORDS
from cai_assets.constitution.schema import as_text, describe, titled

PATH = Path(__file__).with_name("tests.schema.json")
HOVER = {
    "Cases.cases": "The cases. Each names one principle.",
    "Case.id": "Name of the case.",
    "Case.principle": "Id of the principle that should act.",
    "Case.prompt": "What the person asks.",
    "Case.messages": "A conversation that ends with the person's turn, instead of 'prompt'.",
    "Case.response": "A first answer to be criticized and revised; without it the generator answers.",
    "Case.must": "What a good answer must be: one condition per item.",
    "Case.must_not": "What a good answer must not be: one condition per item.",
    "Case.good": "The answer that must be preferred by the principle, in both orders. Belongs together with 'bad'.",
    "Case.bad": "The answer that 'good' is compared with.",
    "refuse": "Whether the answer declines, by rules on the text.",
    "contain": "Texts: all of them, or under 'must_not' none. Case and spacing do not count.",
    "match": "A regular expression, without look-around and back-references. (?i) ignores case.",
    "max_words": "The most words that the answer may have.",
    "judge": "A yes/no question about the answer, asked of the judge in both orders.",
    "stay_on_topic": "The answer shares more words with its own prompt than with the other prompts.",
}


def schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12."""
    generated = Cases.model_json_schema()
    models: dict[str, Any] = generated["$defs"] | {"Cases": generated}
    describe(models, lambda title, name: (
        HOVER.get(f"{title}.{name}") or (HOVER.get(name) if title.startswith("Must") else None)))
    # What validators and the reader say in code.
    for title in ("Must", "MustNot"):
        models[title] |= {"minProperties": 1, "maxProperties": 1}
    models["Must"]["properties"]["max_words"] |= {"minimum": 1, "maximum": MOST_WORDS}
    models["Case"] |= {
        "dependentRequired": {"good": ["bad"], "bad": ["good"]},
        "oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}],
        "anyOf": [{"required": ["must"]}, {"required": ["must_not"]}, {"required": ["good"]}],
    }
    return titled(generated, "Test file")


def render() -> str:
    """The schema as the text of its file."""
    return as_text(schema())


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
