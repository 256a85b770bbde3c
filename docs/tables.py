"""Writes docs/tables.md: the columns of every table, from the tables of a data root in which a version was made whole.

Run ``python docs/tables.py DATA_ROOT`` after a change of what a table holds; a test makes a version with the scripted
engine and holds that the page is current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from cai_assets.assets import ASSETS, GRAPH
from cai_assets.defs.columns import about_column
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import read_parquet
from cai_assets.store.records import Record, Records

PAGE = Path(__file__).with_name("tables.md")
HEAD = """# Tables

The columns of every table, with their [Polars](https://docs.pola.rs) types, as a run with default settings makes them
(`python docs/tables.py DATA_ROOT`). `cai_assets.load("revisions", version)` reads one as a frame
([package.md](package.md)); its record names the file. Further columns come with settings: `thought` and
`thought_state` where a model's thoughts are kept, `kept` where principles have checks, `votes` and `calls` where
several principles judge one pair.
"""
BESIDE = {
    "rows": "One row for each call or answer behind the table.", "texts": "The texts that were compared.",
    "gate_rows": "The human comparisons of the judge gate, and what the labeler said of each.",
    "effects": "What each principle does to each measure.",
    "duplicates": "Prompts that were left out because they repeat others.",
    "rejects": "Lines of the files that are no prompts.",
    "training_rows": "What the checkpoint was trained on, by the IDs of the rows.",
    "origins": "Where each prompt that red-teaming found comes from.",
    "rollouts": "What the policy said while it was trained, and what it was rewarded.",
}


def page(layout: Layout) -> str:
    """The whole page, from the newest records of the newest version."""
    return "\n".join([HEAD, *(line for asset in GRAPH for line in _asset(layout, asset.name))]) + "\n"


def _asset(layout: Layout, asset: str) -> Iterator[str]:
    made = max(Records(layout).every(asset), key=lambda r: r.created, default=None)
    if made is None:
        return
    tables = dict(_tables(made))
    if not tables:
        return
    yield f"## `{asset}`\n\n{ASSETS[asset].about}\n"
    for name, path in tables.items():
        if name:
            yield f"### `{asset}`: {name.replace('_', ' ')}\n"
            yield f"{BESIDE.get(name, '')} In the record: `details.{name}`.\n"
        yield from _columns(asset, read_parquet(layout.absolute(path)).schema)


def _tables(record: Record) -> Iterator[tuple[str, str]]:
    """The asset's own table, under '', and those that its record names beside it."""
    if record.path.endswith(".parquet"):
        yield "", record.path
    yield from ((name, path) for name, path in sorted(record.details.items())
                if isinstance(path, str) and path.endswith(".parquet"))


def _columns(asset: str, schema: pl.Schema) -> Iterator[str]:
    yield "| column | type | what it is |\n|---|---|---|"
    for name, kind in schema.items():
        yield f"| `{name}` | {str(kind).replace('|', chr(92) + '|')} | {about_column(asset, name) or ''} |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page(Layout(Path(sys.argv[1]))), encoding="utf-8")
