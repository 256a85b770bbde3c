"""From the text of a file to its model: pydantic's errors, reworded in terms of the file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cai_assets.constitution.file_text import FileError, Stop, decode
from cai_assets.constitution.reader import Form, Loc, Reader, label, report_repeated_ids, short, suggest, unsafe

Model = TypeVar("Model", bound=BaseModel)
Check = Callable[[Any, Reader], None]

SAID_BETTER = {
    "tuple_type": "must be a list of '- ' items",
    "model_type": "must be 'key: value' lines",
    "string_type": "must be a text",
    "string_too_short": "is blank: write a text or remove the key",
    "string_too_long": "has more than {max_length} characters: shorten it",
    "too_short": "is empty: it needs at least one item",
    "too_long": "has more than {max_length} items: split the file",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "literal_error": "must be {expected}",
}
SLUG_RULE = "use a-z, 0-9 and '-' only, start with a letter or digit, at most 63 characters"
ID_RULE = SLUG_RULE.replace("0-9 and '-'", "0-9, '.' and '-'")


def parse_form(
    text: bytes | str, form: Form, model: type[Model], *, where: str, error: type[FileError],
    given: Mapping[str, Any], check: Check,
) -> Model:
    """Read a file of a form. ``given``: values of fields that are not in the file. ``check`` reports what a model
    cannot see. Raise ``error`` with every problem."""
    reader = Reader(form)
    try:
        document = reader.read(decode(text, form.noun))
        found = _validate(document, model, given, reader, check)
    except Stop as stop:
        reader.problems.append(((), stop.mark, stop.message))
        found = None
    if found is None or reader.problems:
        raise error(reader.found(where))
    return found


def _validate(
    document: Any, model: type[Model], given: Mapping[str, Any], reader: Reader, check: Check
) -> Model | None:
    form = reader.form
    if not isinstance(document, dict):
        raise Stop(reader.marks[(0,)], f"must be 'key: value' lines at the top level, with {form.needs}")
    for name in form.given & document.keys():
        reader.report((name,), f"remove '{name}': the file's name is the {form.noun}'s {name}", at_key=True)
    report_repeated_ids(document, reader)
    try:
        found = model.model_validate({**document, **given})
        check(found, reader)
        return found
    except ValidationError as e:
        errors = e.errors(include_url=False)
        reader.forget_values({x["loc"] for x in errors if x["type"] == "extra_forbidden"})
        # Pydantic repeats errors of the parts for the whole, and errors that the reader reported more clearly.
        known = reader.known()
        for error in errors:
            loc, kind = error["loc"], error["type"]
            whole = (not loc and known) or (kind == "too_short" and error["input"])
            if not whole and (loc not in known or kind == "extra_forbidden"):
                _report(error, given, reader)
    return None


def _report(error: ErrorDetails, given: Mapping[str, Any], reader: Reader) -> None:
    loc, kind, value = error["loc"], error["type"], error["input"]
    if kind == "extra_forbidden":
        reader.report(loc, _unknown(loc, reader.form), at_key=True)
    elif kind == "missing":
        reader.report(loc, f"'{label(loc)}' is missing: add it")
    elif kind == "string_pattern_mismatch":
        outside = len(loc) == 1 and loc[0] in given
        what, text = ("the file's name" if outside else f"'{label(loc)}'"), str(value)
        why = unsafe(text, as_name=True)
        rule = ID_RULE if "." in error["ctx"]["pattern"] else SLUG_RULE
        reader.report(loc, f"{what} cannot be {short(text)}: {why + '; ' if why else ''}{rule}{suggest(text)}")
    elif kind in SAID_BETTER:
        reader.report(loc, f"'{label(loc)}' {SAID_BETTER[kind].format(**error.get('ctx', {}))}")
    else:
        reader.report(loc, error["msg"].removeprefix("Value error, "))


def _unknown(loc: Loc, form: Form) -> str:
    if loc[-1] == "<<":
        return "merge keys ('<<') are not allowed: write the keys out"
    model = form.models[tuple(x for x in loc[:-1] if isinstance(x, str))]
    known = [k for k in model.model_fields if model is not form.whole or k not in form.given]
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    advice = f"did you mean '{near[0]}'?" if near else f"the keys here are {', '.join(known)}"
    return f"there is no key {short(str(loc[-1]))}: {advice}"
