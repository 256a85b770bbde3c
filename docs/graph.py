"""Draws the graph of assets from its declarations into docs/start.md and docs/architecture.md.

Run ``python docs/graph.py`` after a change of ``cai_assets/assets.py``; a test holds that the drawings are current.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from cai_assets.assets import EVERY, Asset, Group, upstream

ROOT = Path(__file__).resolve().parents[1]
FORMS = {"training": ("[[", "]]"), "view": ("([", "])"), "table": ("[", "]"), "snapshot": ("[", "]")}
KEY = ("Double frames are training runs, rounded boxes show what others hold, and everything with a dashed frame knows "
       "nothing of a constitution version. An arrow that follows from others is left out.")
BETWEEN = re.compile(r"(?<=<!-- drawn by docs/graph\.py -->\n).*?(?=<!-- end of the drawing -->)", re.DOTALL)


def drawing() -> str:
    """The graph as a Mermaid flow chart."""
    return "\n".join(["```mermaid", "flowchart LR", *_groups(), *_arrows(), "```", "", KEY, ""])


def table() -> str:
    """Every asset with all that it reads."""
    rows = [f"| `{a.name}` | {a.kind} | {', '.join(f'`{name}`' for name in a.reads)} | {a.about} |" for a in EVERY]
    return "\n".join(["| asset | kind | reads | what it is |", "|---|---|---|---|", *rows, ""])


def drawn(path: Path) -> str:
    """The text of a file with its drawing regenerated."""
    content = drawing() + (f"\n{table()}" if path.name == "architecture.md" else "")
    return BETWEEN.sub(lambda _: content, path.read_text(encoding="utf-8"))


def files() -> list[Path]:
    return [ROOT / "docs/start.md", ROOT / "docs/architecture.md"]


def _groups() -> Iterator[str]:
    for group in get_args(Group):
        yield f'  subgraph group_{group} ["{group}"]'
        yield from (f"    {_node(a)}" for a in EVERY if a.group == group)
        yield "  end"


def _node(a: Asset) -> str:
    left, right = FORMS[a.kind]
    return f"{a.name}{left}{a.name}{right}" + ("" if a.versioned else ":::everywhere")


def _arrows() -> Iterator[str]:
    for a in EVERY:
        yield from (f"  {above} --> {a.name}" for above in a.reads if not any(
            above in upstream(other) for other in a.reads))
    yield "  rl_policy -. the next round .-> starting_responses"
    yield "  classDef everywhere stroke-dasharray: 4"


if __name__ == "__main__":
    for file in files():
        file.write_text(drawn(file), encoding="utf-8")
