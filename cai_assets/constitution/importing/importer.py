"""From a file in any published form to a constitution, with an account of everything that was in the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from pydantic import ValidationError

from cai_assets.constitution.digest import REQUESTS as REQUESTS_OF
from cai_assets.constitution.file_text import Problem
from cai_assets.constitution.importing.document import Document, ImportFailed, read_document
from cai_assets.constitution.importing.entries import Chat, Entry, Found, LeftOut, entries_of, from_clause
from cai_assets.constitution.importing.principles import REQUESTS, Maker, fault_of
from cai_assets.constitution.importing.prose import clauses
from cai_assets.constitution.importing.templates import TEMPLATES, Fill
from cai_assets.constitution.importing.vocabulary import plain
from cai_assets.constitution.model import Constitution, FewShots, RevisionShot, slug_of

TURNS = ("user", "assistant") * 3  # a response, a critique and a revision, each with what asks for it
READABLE = "JSON, JSON Lines, YAML, CSV, Markdown, or text with a line for each principle"


class Imported(NamedTuple):
    """A constitution and what was done to make it. ``read``: entries, all of them principles, examples or left out."""

    constitution: Constitution
    form: str
    read: int
    left_out: tuple[LeftOut, ...]
    lines: tuple[str, ...]


def import_constitution(raw: bytes | str, *, where: str, name: str, fill: Fill = "preference") -> Imported:
    """Make a constitution of a file's content. ``where``: what it is called; ``name``: that of the constitution.

    ``fill``: the requests that a principle of one sentence gets. Raise ImportFailed.
    """
    document = read_document(raw, where)
    found = list(found_in(document))
    about = " ".join(x.text for x in found if isinstance(x, About))
    maker, (shots, fault) = Maker(PurePath(where).name, fill), _shots(document.data)
    entries = [*(x for x in found if not isinstance(x, About)), *([LeftOut("few_shots", fault)] if fault else [])]
    for x in entries:
        if isinstance(x, Entry):
            maker.add(x)
        elif isinstance(x, LeftOut):
            maker.left_out.append(x)
        else:
            _example(x, shots, maker)
    head = document.data if isinstance(document.data, dict) else {}
    constitution = _constitution(maker, shots, head, about, name, where)
    return Imported(constitution, document.form, len(entries), tuple(maker.left_out),
                    tuple(_account(maker, constitution, document, head, len(entries))))


def looks_like(raw: bytes | str, where: str) -> str:
    """What a file that cannot be loaded is, if it is a constitution in another form; else nothing."""
    try:
        document = read_document(raw, where)
        imported = import_constitution(raw, where=where, name="any") if not _is_ours(document) else None
    except ImportFailed:
        return ""
    return (f"this looks like {imported.form} with {_counted(len(imported.constitution.principles), 'principle')}, not "
            "like a constitution file of this project") if imported else ""


def _is_ours(document: Document) -> bool:
    """Whether it was meant to be a constitution file: a principle has a request under its own name."""
    principles = document.data.get("principles") if isinstance(document.data, dict) else None
    return document.form == "YAML" and isinstance(principles, list) and any(
        isinstance(p, dict) and p.keys() & set(REQUESTS) for p in principles)


class About(NamedTuple):
    """A part of a document that says what the whole is."""

    text: str


def found_in(document: Document) -> Iterator[Found | About]:
    """What may be a principle or an example, what is neither, and what describes the whole."""
    if document.data is not None:
        yield from entries_of(document.data)
        return
    for clause in clauses(document.text):
        yield About(clause.text) if clause.about else from_clause(clause, f"line {clause.line}", Entry(""))


def _example(chat: Chat, shots: dict[str, list[Any]], maker: Maker) -> None:
    roles, texts = tuple(r for r, _ in chat.turns), [t.strip() for _, t in chat.turns]
    fault = next(filter(None, map(fault_of, texts)), "")
    if roles != TURNS or not all(texts) or fault:
        what = fault or f"has {len(roles)} turns, not {len(TURNS)} that alternate"
        maker.left_out.append(LeftOut(chat.where, f"{what}: an example is a question and an answer, the critique "
                                                  "request and its critique, the revision request and its revision"))
        return
    shots["revision"].append(RevisionShot(**dict(zip(RevisionShot.model_fields, texts, strict=True))))


def _shots(data: Any) -> tuple[dict[str, list[Any]], str]:
    """Examples in this project's own form, and what is wrong with them."""
    given, fault = (data.get("few_shots") or {} if isinstance(data, dict) else {}), ""
    try:
        shots = FewShots.model_validate(given, strict=False)
        fault = next(filter(None, (fault_of(t) for use in (shots.revision, shots.preference) for shot in use
                                   for t in shot.model_dump(exclude_none=True).values())), "")
    except ValidationError as e:
        fault = f"are no examples of this project: {e.errors()[0]['msg']}"
    shots = FewShots() if fault else shots
    return {"revision": list(shots.revision), "preference": list(shots.preference)}, fault


def _constitution(maker: Maker, shots: Mapping[str, Any], head: Mapping[str, Any], about: str, name: str,
                  where: str) -> Constitution:
    if not maker.principles:
        first = f"; the first of {len(maker.left_out)} entries {maker.left_out[0].why}" if maker.left_out else ""
        raise ImportFailed([Problem(where, 1, 1, f"holds no principle that can be read ({READABLE}; docs/import.md "
                                                 f"shows each){first}")])
    try:
        return Constitution(name=name, version=slug_of(str(head.get("version", ""))) or "v1",
                            description=_description(head, about), principles=tuple(maker.principles),
                            few_shots=FewShots(**{use: tuple(x) for use, x in shots.items()}))
    except ValidationError as e:
        raise ImportFailed([Problem(where, 1, 1, e.errors()[0]["msg"].removeprefix("Value error, "))]) from None


def _description(head: Mapping[str, Any], about: str) -> str:
    names = {plain(k): v for k, v in head.items() if isinstance(v, str)}
    text = names.get("description", about or names.get("title") or names.get("name") or "")
    return "" if fault_of(text) else " ".join(text.split())


def _account(maker: Maker, c: Constitution, document: Document, head: Mapping[str, Any], read: int) -> Iterator[str]:
    """What was mapped, what was filled from which template, and what was left out, each in a line."""
    examples = read - len(c.principles) - len(maker.left_out)
    with_ = ", ".join(f"{len(c.taking_part(use))} with {' and '.join(requests)}" for use, requests in
                      REQUESTS_OF.items() if c.taking_part(use))
    yield (f"{document.form}, {_counted(read, 'entry')} = {_counted(len(c.principles), 'principle')}"
           + (f" + {_counted(examples, 'example')}" if examples else "") + f" + {len(maker.left_out)} left out")
    yield f"principles: {with_}"
    if maker.mapped:
        yield "mapped: " + ", ".join(f"{key} -> {'sentence' if field == 'text' else field} ({n})"
                                     for (key, field), n in maker.mapped.items())
    for template, n in maker.filled.items():
        yield f"filled: {template.partition('-')[0]} of {n} from the template '{template}': {TEMPLATES[template]}"
    if maker.wrappers:
        yield "cut off: " + ", ".join(f"{w!r} ({n})" for w, n in maker.wrappers.items())
    for key, n in maker.unused.items():
        yield f"left out: '{key}' of {_counted(n, 'entry')}, which has no place in a constitution"
    for what in maker.left_out:
        yield f"left out: {what.where}: {what.why}"
    for key in (k for k in head if plain(k) in {"name", "title"} and head[k] != c.description):
        yield f"left out: {key} {head[key]!r}: the file's name is the constitution's name"


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{n} {noun}s"
