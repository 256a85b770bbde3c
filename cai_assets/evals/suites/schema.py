"""The JSON Schema of a suite's file, for editors; ``python -m cai_assets.evals.suites.schema`` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cai_assets.constitution.schema import as_text, describe, titled
from cai_assets.evals.suites.model import SuiteFile

PATH = Path(__file__).with_name("suite.schema.json")
HOVER = {
    "SuiteFile.kind": "What is asked, and which measure is the headline.",
    "SuiteFile.description": "What this suite is.",
    "SuiteFile.source": "Where it comes from.",
    "SuiteFile.file": "A file of cases in the suite's own folder, of nearly any form (docs/data.md). Or write 'cases'.",
    "SuiteFile.columns": "How the file's columns are called, where the usual names do not fit.",
    "SuiteFile.where": "Only rows whose column has one of these values, such as {label: [safe]}.",
    "SuiteFile.cases": "Cases written here. Or name a 'file'.",
    "SuiteFile.templates_file": "JSONL file with 'template', in the suite's own folder.",
    "SuiteFile.templates": "Texts that each request is wrapped in.",
    "SuiteFile.modes": "How each case is asked. Default: all four of a jailbreak, the plainest of another kind.",
    "SuiteFile.safety_prompt": "The system prompt of the modes with '+safety'.",
    "SuiteFile.prefill": "How the answer to every case begins.",
    "SuiteFile.headline": "The suite's measure, if not the usual one of its kind.",
    "Inline.id": "Name of the case.",
    "Inline.prompt": "What is asked.",
    "Inline.category": "Under which the case is counted.",
    "Inline.context": "Text that belongs to the prompt.",
    "Inline.prefill": "How the answer begins.",
    "Inline.choices": "The answers to choose from.",
    "Inline.answer": "The right answer.",
    "Template.id": "Name of the template.",
    "Template.template": "[INSERT PROMPT HERE] marks the place of the request; without it, the request follows.",
}


def schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12. The name is the file's, and not in it."""
    generated = SuiteFile.model_json_schema()
    del generated["properties"]["name"]
    generated["required"].remove("name")
    describe(generated["$defs"] | {"SuiteFile": generated}, lambda title, name: HOVER.get(f"{title}.{name}"))
    return titled(generated, "Suite file")


def render() -> str:
    """The schema as the text of its file."""
    return as_text(schema())


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
