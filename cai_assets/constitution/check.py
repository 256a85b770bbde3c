"""A rule of a principle that needs no judge: it holds for a text or it does not (``evals/rules.py`` decides).

Guarantee: the same text is always decided alike, on any machine, by no model call.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cai_assets.constitution.pattern import MOST_WORDS, Pattern

Form = Literal["json", "list", "prose", "paragraph"]
FORMS: dict[Form, str] = {
    "json": "valid JSON and nothing else", "list": "a list: each line is an item",
    "prose": "prose: no list, heading, table or code block", "paragraph": "one paragraph of prose"}


class Check(BaseModel):
    """What an answer must be; all that is given must hold. An answer without any word never passes.

    ``match``, ``no_match``: regular expressions that are found, or not found, anywhere in the answer. ``language``: its
    ISO 639-1 code, such as 'de'. ``format``: one of FORMS.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    max_words: int | None = Field(default=None, ge=1, le=MOST_WORDS)
    min_words: int | None = Field(default=None, ge=1, le=MOST_WORDS)
    match: Pattern | None = None
    no_match: Pattern | None = None
    language: str | None = Field(default=None, pattern=r"^[a-z]{2}$")
    format: Form | None = None

    @model_validator(mode="after")
    def _can_be_kept(self) -> Check:
        if not self.model_dump(exclude_none=True):
            raise ValueError("'check' says nothing: give it one of " + ", ".join(type(self).model_fields))
        if self.max_words and self.min_words and self.min_words > self.max_words:
            raise ValueError(f"no answer has at least {self.min_words} and at most {self.max_words} words")
        return self

    def __str__(self) -> str:
        said = {"max_words": f"at most {self.max_words} words", "min_words": f"at least {self.min_words} words",
                "match": f"matches /{self.match}/", "no_match": f"does not match /{self.no_match}/",
                "language": f"in the language '{self.language}'",
                "format": FORMS[self.format] if self.format else ""}
        return "; ".join(said[name] for name in self.model_dump(exclude_none=True))
