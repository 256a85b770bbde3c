"""SHA256SUMS: the digests of a folder without a record. ``sha256sum -c SHA256SUMS`` reads it too."""

from __future__ import annotations

from pathlib import Path

from cai_assets.store.canonical import digest_file
from cai_assets.store.files import write_atomic
from cai_assets.store.folders import files_in

SUMS = "SHA256SUMS"


def write_sums(folder: Path) -> None:
    """List every file that lies in the folder."""
    lines = [f"{digest.partition(':')[2]}  {name}\n" for name, digest in sorted(digests(folder).items())]
    write_atomic(folder / SUMS, "".join(lines).encode())


def read_sums(folder: Path) -> dict[str, str]:
    """``sha256:…`` by file, as listed. Raise OSError or ValueError if the list cannot be read."""
    pairs = [line.split("  ", maxsplit=1) for line in (folder / SUMS).read_text(encoding="utf-8").splitlines()]
    return {name: f"sha256:{digest}" for digest, name in pairs}


def files(folder: Path) -> dict[str, Path]:
    """What lies in a folder by name, but for what the Hub and its client add and the list itself."""
    paths = {p.relative_to(folder).as_posix(): p for p in files_in(folder)}
    return {n: p for n, p in paths.items() if n not in {SUMS, ".gitattributes"} and not n.startswith(".cache/")}


def digests(folder: Path) -> dict[str, str]:
    """``sha256:…`` of each of ``files``."""
    return {name: digest_file(path) for name, path in files(folder).items()}
