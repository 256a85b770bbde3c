"""The keys under which published constitutions keep the parts of a principle.

Those of Hugging Face's llm-swarm (``critic``, ``revision``), Bai et al. 2022 and NeMo-Aligner (``prompt``,
``edit_request``), LangChain (``critique_request``, ``revision_request``), OpenCharacterTraining (``trait``), this
project, and lists of sentences under many names (``principles``, ``rules``, ...). A key counts in lower case and
without punctuation: ``critiqueRequest`` and ``critique_request`` are one.
"""

from __future__ import annotations

import re

REQUESTS = {
    "critique": "critique", "critic": "critique", "critiquerequest": "critique", "criticrequest": "critique",
    "critiqueprompt": "critique", "criticprompt": "critique", "critiqueinstruction": "critique",
    "revision": "revision", "revise": "revision", "revisionrequest": "revision", "revisionprompt": "revision",
    "revisioninstruction": "revision", "editrequest": "revision",
    "preference": "preference", "preferencerequest": "preference", "preferenceprompt": "preference",
    "comparison": "preference", "comparisonrequest": "preference",
    "evaluation": "evaluation", "evaluationrequest": "evaluation",
}
FACTS = {
    "id": "id", "slug": "id", "key": "id", "name": "name", "title": "name", "label": "name", "heading": "name",
    "weight": "weight", "tags": "tags", "tag": "tags", "category": "tags", "categories": "tags",
    "rubric": "rubric", "check": "check", "gate": "gate", "priority": "priority", "why": "why", "rationale": "why",
    "source": "source", "origin": "source", "reference": "source",
}
# Of several texts of a record the first named here is the principle; the others are left out.
SENTENCES = ("text", "principle", "rule", "statement", "sentence", "clause", "article", "trait", "value", "guideline",
             "definition", "description", "content", "constitution", "summary")
# Keys that speak of the file as a whole.
ABOUT = {"version", "name", "title", "description", "date", "author", "authors", "license", "url", "source", "schema",
         "id", "updated", "created", "language", "lang", "comment"}
CONTAINER = re.compile(r"(principles|constitutions?|rules|clauses|articles|values|traits|guidelines|statements"
                       r"|sentences|commandments|amendments|standards)$")
CHATS = re.compile(r"systemchats?$")
# Headings of a document that are no principles.
NO_PRINCIPLE = {"preamble", "introduction", "background", "references", "license", "changelog", "contents",
                "table of contents", "appendix", "about", "acknowledgements", "acknowledgments", "version history",
                "overview", "sources", "notes", "list of articles", "coverage map"}


def plain(key: str) -> str:
    """A key in lower case and without punctuation."""
    return re.sub(r"[^a-z0-9]", "", key.casefold())
