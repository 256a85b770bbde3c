"""The JSON Schema of a constitution file, for editors.

Guarantees: generated from the pydantic models, so that it cannot disagree with the loader; written
to ``constitution.schema.json`` by ``python -m cai_assets.constitution.schema``. It describes the file: the
name is not in it. The loader checks more than a schema can say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cai_assets.constitution.model import Constitution

PATH = Path(__file__).with_name("constitution.schema.json")
HOVER = {
    "Constitution.version": "Label of this version, in quotes, such as \"v1\". The digest tells versions apart.",
    "Constitution.description": "What this constitution is for.",
    "Constitution.principles": "The principles. Their order does not matter.",
    "Constitution.few_shots": "Worked examples, versioned with the principles.",
    "Constitution.articles": "The constitution as a document: each clause becomes a principle of the same id.",
    "Constitution.fill": "The requests that the text of a clause becomes: all, preference, critique, or none.",
    "Constitution.parent": "The constitution that this one derives from: a name, a version, or a file (cai coverage).",
    "Article.id": "Permanent identity of the article.",
    "Article.title": "Its heading. Changing it recomputes nothing.",
    "Article.why": "The reason for those of its clauses that give none.",
    "Article.priority": "The tier of its clauses; 1 is the highest. A lower one decides where the higher is undecided.",
    "Article.clauses": "The clauses. Their order does not matter.",
    "Clause.id": "Permanent identity, such as \"4.2\": never rename or reuse one. Renumber with 'number'.",
    "Clause.number": "How the document counts the clause now, if not by its id. Changing it recomputes nothing.",
    "Clause.text": "The clause itself. 'fill' says which requests are made of it; write those that do not fit.",
    "Clause.examples": "Examples for readers. They stand in no prompt.",
    "Clause.basis": "What the clause rests on in the parent: ids such as \"3.1\", or the parent's own words.",
    "Clause.status": "active; new: it rests on nothing in the parent; deferred: it is put off and trains nothing.",
    "Principle.id": "Permanent identity of the principle: never rename or reuse one.",
    "Principle.name": "Display name. Changing it recomputes nothing.",
    "Principle.critique": "Request to find what is wrong with a response. Belongs together with 'revision'.",
    "Principle.revision": "Request to rewrite the response. Belongs together with 'critique'.",
    "Principle.preference": "Request to choose between two responses.",
    "Principle.evaluation": "Question by which finished policies are judged. It trains nothing.",
    "Principle.rubric": "Yes/no question about one answer, whose Yes is good. Read by rl.reward: rubric.",
    "Principle.check": "A rule that needs no judge: all that is given must hold. Measured in the evaluation.",
    "Principle.gate": "A hard rule: a response that breaks it gets the least reward of all.",
    "Check.max_words": "The most words that the answer may have.",
    "Check.min_words": "The fewest words that the answer may have.",
    "Check.match": "A regular expression, without look-around and back-references, that is found in the answer.",
    "Check.no_match": "A regular expression that is not found in the answer.",
    "Check.language": "ISO 639-1 code of the answer's language, such as de.",
    "Check.format": "json, list, prose, or paragraph.",
    "Principle.weight": "Share of draws relative to the other principles.",
    "Principle.tags": "Free labels; 'do' and 'dont' let lint see their balance.",
    "Principle.source": "Where the principle comes from.",
    "Principle.why": "Why it holds. Stands in prompts where critique.why or labels.why asks for it.",
    "Principle.priority": "Its tier; 1 is the highest. A lower one decides where the higher is undecided.",
    "PreferenceShot.reasons": "Why the chosen answer is better; makes it an example of chain-of-thought labels too.",
}


def schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12."""
    generated = Constitution.model_json_schema()
    models: dict[str, Any] = generated["$defs"] | {"Constitution": generated}
    del generated["properties"]["name"]
    generated["required"].remove("name")
    describe(models, lambda title, name: HOVER.get(f"{title}.{name}")
             or (HOVER.get(f"Principle.{name}") if title == "Clause" else None))
    # What the model's validator says in code.
    models["Principle"] |= {
        "dependentRequired": {"critique": ["revision"], "revision": ["critique"]},
        "anyOf": [{"required": [part]} for part in ("critique", "preference", "evaluation", "rubric", "check")],
    }
    generated["anyOf"] = [{"required": ["principles"]}, {"required": ["articles"]}]
    models["Check"]["minProperties"] = 1
    return titled(generated, "Constitution file")


def render() -> str:
    """The schema as the text of its file."""
    return as_text(schema())


def titled(generated: dict[str, Any], title: str) -> dict[str, Any]:
    """A schema that says what it is."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | generated | {"title": title}


def as_text(schema: dict[str, Any]) -> str:
    """A schema as the text of its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def describe(models: Mapping[str, Any], hover: Callable[[str, str], str | None]) -> None:
    """Tidy every key of the models' schemas, by title. ``hover``: what an editor shows for a title and a key."""
    for title, model in models.items():
        for name, field in model["properties"].items():
            _tidy(field, hover(title, name))


def _tidy(field: dict[str, Any], hover: str | None) -> None:
    """A key that may be left out may still not be null in a file."""
    given = [option for option in field.pop("anyOf", []) if option != {"type": "null"}]
    for option in given:
        field |= option
    field.pop("title", None)
    if field.get("default", "") is None:
        del field["default"]
    if hover:
        field["description"] = hover


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
