"""``cai coverage``: what of a parent constitution the clauses of another one carry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cai_assets.cli import complete
from cai_assets.cli.common import AsJson, app, find_constitution, open_project, out, read_settings
from cai_assets.constitution.files import YAML
from cai_assets.constitution.model import slug_of

if TYPE_CHECKING:
    from cai_assets.constitution.model import Constitution
    from cai_assets.settings import Settings

WHAT = "A version, a constitution's name, or a file (Markdown too)"


@app.command()
def coverage(
    parent: Annotated[str, typer.Argument(help=WHAT, autocompletion=complete.versions)],
    child: Annotated[str, typer.Argument(help=f"What derives from it: {WHAT[0].lower()}{WHAT[1:]}",
                                         autocompletion=complete.versions)],
    strict: Annotated[bool, typer.Option("--strict", help="Fail for reworded and renumbered clauses, too")] = False,
    json_: AsJson = False,
) -> None:
    """Map each sentence of a constitution to the clauses of one that derives from it. Asks no model.

    Exits with 1 if a sentence is missing, or a clause is an orphan, a duplicate, or names a basis that is not there.
    """
    from cai_assets.constitution.coverage import as_dict
    from cai_assets.constitution.coverage import coverage as map_sentences
    from cai_assets.reports.text.coverage import sentence_table, told

    settings = read_settings({})
    found = map_sentences(_document(settings, parent), _document(settings, child))
    if json_:
        typer.echo(json.dumps(as_dict(found), indent=1, ensure_ascii=False))
    else:
        out.print(sentence_table(found))
        out.print(told(found))
    raise typer.Exit(1 if found.fails(strict=strict) else 0)


def _document(settings: Settings, name: str) -> Constitution:
    """A constitution, or a published one that is still in another form."""
    path = Path(name)
    if not path.is_file() or path.suffix in YAML:
        return _named(settings, name)
    from cai_assets.constitution.file_text import read_bytes
    from cai_assets.constitution.importing.document import ImportFailed
    from cai_assets.constitution.importing.importer import import_constitution

    raw = read_bytes(path, ImportFailed)
    return import_constitution(raw, where=name, name=slug_of(path.stem) or "document", fill="preference").constitution


def _named(settings: Settings, name: str) -> Constitution:
    """A constitution's file, a version, or the newest version of a constitution that has no file."""
    from cai_assets.versions.snapshots import UnknownVersion

    try:
        return find_constitution(settings, name)
    except UnknownVersion:
        found: Constitution | None = open_project(settings).snapshots.newest_of(name)
        if found is None:
            raise
        return found
