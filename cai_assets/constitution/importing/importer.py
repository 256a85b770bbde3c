"""From a file in any published form to a constitution, with an account of everything that was in the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from pydantic import ValidationError

from cai_assets.constitution.clauses import BadClause, compiled
from cai_assets.constitution.digest import REQUESTS as REQUESTS_OF
from cai_assets.constitution.file_text import FileError, Problem
from cai_assets.constitution.importing.articles import is_document, read_articles
from cai_assets.constitution.importing.document import Document, ImportFailed, read_document
from cai_assets.constitution.importing.entries import Chat, Entry, Found, LeftOut, entries_of, from_clause
from cai_assets.constitution.importing.principles import Maker, fault_of
from cai_assets.constitution.importing.prose import clauses
from cai_assets.constitution.importing.vocabulary import plain
from cai_assets.constitution.model import Constitution, FewShots, Fill, RevisionShot, slug_of
from cai_assets.constitution.templates import REQUESTS, TEMPLATES

OF_DOCUMENT = ("articles", "fill", "parent")
ANY_OTHER = {"name": "any", "version": "v1", "principles": [{"id": "any", "preference": "any"}]}  # is not looked at
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
    if document.form == "Markdown" and is_document(document.text):
        return _of_prose(document, where, name, fill)
    found = list(found_in(document))
    about = " ".join(x.text for x in found if isinstance(x, About))
    own, (shots, fault) = _own_document(document), _shots(document.data)
    maker = Maker(PurePath(where).name, fill, frozenset(c.id for a in own.get("articles", ()) for c in a.clauses))
    entries = [*(x for x in found if not isinstance(x, About)), *([LeftOut("few_shots", fault)] if fault else [])]
    for x in entries:
        if isinstance(x, Entry):
            maker.add(x)
        elif isinstance(x, LeftOut):
            maker.left_out.append(x)
        else:
            _example(x, shots, maker)
    head = document.data if isinstance(document.data, dict) else {}
    constitution = _constitution(maker, shots, head, about, name, where, own)
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
    data = document.data if document.form == "YAML" and isinstance(document.data, dict) else {}
    clauses = [c for a in _listed(data.get("articles")) if isinstance(a, dict) for c in _listed(a.get("clauses"))]
    return any(isinstance(p, dict) and p.keys() & set(REQUESTS) for p in _listed(data.get("principles"))) or any(
        isinstance(c, dict) and c.keys() >= {"id", "text"} for c in clauses)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


class About(NamedTuple):
    """A part of a document that says what the whole is."""

    text: str


def found_in(document: Document) -> Iterator[Found | About]:
    """What may be a principle or an example, what is neither, and what describes the whole."""
    if document.data is not None:
        own = _own_document(document)
        yield from entries_of({k: v for k, v in document.data.items() if k not in own} if own else document.data)
        return
    for clause in clauses(document.text):
        yield About(clause.text) if clause.about else from_clause(clause, f"line {clause.line}", Entry(""))


def _own_document(document: Document) -> dict[str, Any]:
    """The articles of a file of this project, with what belongs to them; nothing of a file in another form."""
    from cai_assets.constitution.load import parse_own  # which says what to import

    data = document.data
    given = [k for k in OF_DOCUMENT if k in data] if isinstance(data, Mapping) else []
    try:
        made = None if not given else parse_own(document.text, name="any", where="") if document.form == "YAML" else (
            Constitution.model_validate({**ANY_OTHER, **{k: data[k] for k in given}}, strict=False))
    except (FileError, ValidationError):
        return {}
    return {k: getattr(made, k) for k in given}


def _of_prose(document: Document, where: str, name: str, fill: Fill) -> Imported:
    """A document of articles and clauses."""
    read = read_articles(document.text)
    faults = [LeftOut(f"clause {c['id']}", fault) for a in read.articles for c in a["clauses"]
              for t in (c["text"], c.get("why", ""), c.get("name", "")) if (fault := fault_of(t))]
    bad = {x.where.removeprefix("clause ") for x in faults}
    articles = [{**a, "clauses": kept} for a in read.articles if (kept := [c for c in a["clauses"]
                                                                          if c["id"] not in bad])]
    try:
        made = Constitution.model_validate(
            {"name": name, "version": read.version or "v1", "description": "" if fault_of(read.about) else read.about,
             "fill": fill, "articles": articles}, strict=False)
        made = compiled(made)
    except (ValidationError, BadClause) as e:
        why = e.errors()[0]["msg"].removeprefix("Value error, ") if isinstance(e, ValidationError) else str(e)
        raise ImportFailed([Problem(where, 1, 1, f"holds no clause that can be read: {why}")]) from None
    if not made.principles:
        many = _counted(len(made.clauses), "clause")
        raise ImportFailed([Problem(where, 1, 1, f"no principle is made of its {many}: by --fill {fill} they get no "
                                                 "request, or all of them are deferred")])
    left = (*read.left_out, *faults)
    deferred = sum(c.status == "deferred" for c in made.clauses)
    lines = (f"{document.form}, a document of {_counted(len(made.articles), 'article')}: "
             f"{_counted(len(made.clauses), 'clause')} + {len(left)} left out",
             f"principles: {len(made.principles)}, by fill: {fill}; {_counted(deferred, 'clause')} deferred, "
             f"{sum(bool(c.why) for c in made.clauses)} with a reason, "
             f"{sum(bool(c.basis) for c in made.clauses)} with a basis in a parent",
             *(f"left out: {x.where}: {x.why}" for x in left))
    return Imported(made, document.form, len(made.clauses) + len(left), left, lines)


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
                  where: str, document: Mapping[str, Any]) -> Constitution:
    if not maker.principles and not document.get("articles"):
        first = f"; the first of {len(maker.left_out)} entries {maker.left_out[0].why}" if maker.left_out else ""
        raise ImportFailed([Problem(where, 1, 1, f"holds no principle that can be read ({READABLE}; docs/import.md "
                                                 f"shows each){first}")])
    try:
        made = compiled(Constitution(
            name=name, version=slug_of(str(head.get("version", ""))) or "v1", description=_description(head, about),
            few_shots=FewShots(**{use: tuple(x) for use, x in shots.items()}),
            **{**document, **({"principles": tuple(maker.principles)} if maker.principles else {})}))
    except BadClause as e:
        raise ImportFailed([Problem(where, 1, 1, str(e))]) from None
    except ValidationError as e:
        raise ImportFailed([Problem(where, 1, 1, e.errors()[0]["msg"].removeprefix("Value error, "))]) from None
    if not made.principles:
        raise ImportFailed([Problem(where, 1, 1, "no principle is made of its clauses: all of them are deferred")])
    return made


def _description(head: Mapping[str, Any], about: str) -> str:
    names = {plain(k): v for k, v in head.items() if isinstance(v, str)}
    text = names.get("description", about or names.get("title") or names.get("name") or "")
    return "" if fault_of(text) else " ".join(text.split())


def _account(maker: Maker, c: Constitution, document: Document, head: Mapping[str, Any], read: int) -> Iterator[str]:
    """What was mapped, what was filled from which template, and what was left out, each in a line."""
    examples, made = read - len(maker.principles) - len(maker.left_out), len(c.principles) - len(maker.principles)
    with_ = ", ".join(f"{len(c.taking_part(use))} with {' and '.join(requests)}" for use, requests in
                      REQUESTS_OF.items() if c.taking_part(use))
    yield (f"{document.form}, {_counted(read, 'entry')} = {_counted(len(maker.principles), 'principle')}"
           + (f" + {_counted(examples, 'example')}" if examples else "") + f" + {len(maker.left_out)} left out")
    yield f"principles: {with_}" + (f"; {made} of them made of clauses" if made else "")
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
