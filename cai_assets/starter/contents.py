"""The files of a project, as this version writes them."""

from __future__ import annotations

import re
from pathlib import Path

import cai_assets

FILES = Path(__file__).parent / "files"
DEPLOY = Path(__file__).parent / "deploy"
PACKAGE = Path(cai_assets.__path__[0])
SCHEMAS = ("settings/settings.schema.json", "constitution/constitution.schema.json", "constitution/tests.schema.json")
CHECKOUT = re.compile(r"'\.(\[[a-z,]+\])'")  # a package that a checkout installs from itself, with these extras
OWN = ".cai"  # the folder of the files that nobody edits
FOR_OTHERS = "deploy/"  # what begins the paths of files for other machines
YOURS = ("constitutions/", "README.md", "settings.yaml")
"""What is written once, and then is the user's alone."""


def contents(*, deploy: bool = False) -> dict[str, bytes]:
    """Each file by its path in the project; with ``deploy`` also those for other machines."""
    files = {p.relative_to(FILES).as_posix().replace("dot-", "."): p for p in sorted(FILES.rglob("*")) if p.is_file()}
    # rglob does not follow the link that constitutions/ is in a checkout
    files |= {f"constitutions/{p.name}": p for p in sorted((FILES / "constitutions").glob("*.yaml"))}
    if deploy:
        files |= {f"{FOR_OTHERS}{p.relative_to(DEPLOY).as_posix()}": p for p in DEPLOY.rglob("*") if p.is_file()}
    schemas = {f"{OWN}/{Path(name).name}": (PACKAGE / name).read_bytes() for name in SCHEMAS}
    return {name: _of_this_version(path) for name, path in sorted(files.items())} | schemas


def yours(name: str) -> bool:
    """Whether a file is the user's alone once it is written."""
    return name.startswith(YOURS)


def _of_this_version(path: Path) -> bytes:
    text = path.read_text(encoding="utf-8").replace("../cai_assets/constitution/", f"../{OWN}/")
    text = CHECKOUT.sub(r"'cai-assets\1=={version}'", text)
    return text.replace("{version}", cai_assets.__version__).encode()
