"""The constitution files of a folder: ``NAME.yaml`` or ``NAME.yml``, not hidden, and not a file of tests."""

from __future__ import annotations

from pathlib import Path

YAML = (".yaml", ".yml")


def yaml_files(folder: Path) -> list[Path]:
    """The YAML files of a folder that are not hidden, by name; the folder need not exist."""
    return sorted(p for p in folder.glob("*") if p.suffix in YAML and not p.name.startswith("."))


def constitution_files(folder: Path) -> list[Path]:
    """The constitution files of a folder, by name."""
    return [p for p in yaml_files(folder) if not is_tests(p)]


def constitution_file(folder: Path, name: str) -> Path:
    """The file of the constitution of that name; if there is none, where it would be."""
    return _either(folder, name)


def tests_file(folder: Path, name: str) -> Path:
    """The file of the tests of the constitution of that name; if there is none, where it would be."""
    return _either(folder, f"{name}.tests")


def is_tests(path: Path) -> bool:
    """Whether a file holds the tests of a constitution, by its name."""
    return path.name.endswith(tuple(f".tests{suffix}" for suffix in YAML))


def tested_file(tests: Path) -> Path:
    """The constitution file that a file of tests belongs to; it need not exist."""
    return constitution_file(tests.parent, tests.stem.removesuffix(".tests"))


def twice(files: list[Path]) -> dict[Path, str]:
    """Files whose name another file has too, and what to say of each: nobody can tell which of the two is meant."""
    return {p: f"{p}: there is {p.stem}{YAML[0]} too, and both are called '{p.stem}': remove one of them"
            for p in files if p.suffix != YAML[0] and p.with_suffix(YAML[0]) in files}


def _either(folder: Path, stem: str) -> Path:
    paths = [folder / f"{stem}{suffix}" for suffix in YAML]
    return next((p for p in paths if p.exists()), paths[0])
