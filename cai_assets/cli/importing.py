"""``cai import``: a constitution in a published form becomes a constitution file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cai_assets.cli.common import app, out, refuse_to_replace, stop
from cai_assets.constitution.files import YAML
from cai_assets.constitution.model import Fill, slug_of
from cai_assets.constitution.reader import short, suggest
from cai_assets.constitution.strict import SLUG_RULE
from cai_assets.constitution.templates import FILLED

Source = Annotated[Path, typer.Argument(help="JSON, JSON Lines, YAML, CSV, Markdown, or text, a principle a line")]
To = Annotated[Path, typer.Option("--out", help="The file to write, such as constitutions/NAME.yaml")]
Filling = Annotated[str, typer.Option(help="What a principle of one sentence gets: preference, critique (with its "
                                           "revision), all, or none")]
Force = Annotated[bool, typer.Option("--force", help="Replace that file")]


@app.command(name="import")
def import_(file: Source, out_: To, fill: Filling = "preference", force: Force = False) -> None:
    """Make a constitution file of a published constitution, and say what became of everything in it. Asks no model.

    Reads principles of Hugging Face, Bai et al., NeMo, LangChain, lists of sentences, and documents (docs/import.md).
    """
    from cai_assets.constitution.file_form import as_yaml
    from cai_assets.constitution.file_text import read_bytes
    from cai_assets.constitution.importing.document import ImportFailed
    from cai_assets.constitution.importing.importer import import_constitution
    from cai_assets.constitution.load import parse
    from cai_assets.store.files import write_atomic

    _refuse(out_, fill, force)
    chosen: Fill = fill  # type: ignore[assignment]
    imported = import_constitution(read_bytes(file, ImportFailed), where=str(file), name=out_.stem, fill=chosen)
    text = as_yaml(imported.constitution, (f"Imported from {file.name} by cai import:", *imported.lines))
    parse(text, name=out_.stem, where=str(out_))
    write_atomic(out_, text.encode())
    for line in imported.lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    out.print(f"Wrote {out_}. Next: cai lint {out_}", markup=False, highlight=False, soft_wrap=True)


def _refuse(path: Path, fill: str, force: bool) -> None:
    if fill not in FILLED:
        stop(f"--fill {fill}: use one of {', '.join(FILLED)}")
    if path.suffix not in YAML:
        stop(f"--out {path}: name a file that ends in {' or '.join(YAML)}, such as constitutions/NAME.yaml")
    if slug_of(path.stem) != path.stem:
        stop(f"--out {path}: the file's name cannot be {short(path.stem)}: {SLUG_RULE}{suggest(path.stem)}")
    refuse_to_replace(path, force=force)
