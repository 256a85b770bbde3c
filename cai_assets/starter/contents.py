"""The files of a project, as this version writes them."""

from __future__ import annotations

from pathlib import Path

import cai_assets

FILES = Path(__file__).parent / "files"
PACKAGE = Path(cai_assets.__path__[0])
SCHEMAS = ("settings/settings.schema.json", "constitution/constitution.schema.json", "constitution/tests.schema.json")
OWN = ".cai"  # the folder of the files that nobody edits
YOURS = ("constitutions/", "README.md", "settings.yaml")
"""What is written once, and then is the user's alone."""


def contents() -> dict[str, bytes]:
    """Each file by its path in the project."""
    files = {p.relative_to(FILES).as_posix().replace("dot-", "."): p for p in sorted(FILES.rglob("*")) if p.is_file()}
    # rglob does not follow the link that constitutions/ is in a checkout
    files |= {f"constitutions/{p.name}": p for p in sorted((FILES / "constitutions").glob("*.yaml"))}
    schemas = {f"{OWN}/{Path(name).name}": (PACKAGE / name).read_bytes() for name in SCHEMAS}
    return {name: _of_this_version(path) for name, path in sorted(files.items())} | schemas


def yours(name: str) -> bool:
    """Whether a file is the user's alone once it is written."""
    return name.startswith(YOURS)


def _of_this_version(path: Path) -> bytes:
    text = path.read_text(encoding="utf-8").replace("../cai_assets/constitution/", f"../{OWN}/")
    return text.replace("{version}", cai_assets.__version__).encode()
