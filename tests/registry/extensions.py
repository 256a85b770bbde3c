"""A made-up distribution on a folder of its own, as pip would have installed it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path


def install(site: Path, modules: Mapping[str, str], entry_points: Mapping[str, str], *, name: str = "my-package",
            version: str = "1.2") -> Path:  # fmt: skip
    """``modules``: file name to text. ``entry_points``: group to lines such as ``echo = my_package:ECHO``."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{lines}\n" for group, lines in entry_points.items()))
    for file, text in modules.items():
        (site / file).write_text(text)
    importlib.invalidate_caches()
    return site
