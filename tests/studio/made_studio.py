"""A studio over a folder of its own, behind the guard, with runs that are only counted."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from cai_assets.studio.app import AT, studio
from cai_assets.web.addresses import Addresses
from cai_assets.web.guard import Guard

REPOSITORY = Path(__file__).parents[2]
HERE = "http://127.0.0.1:3000"


class Counted:
    """Stands for Dagster."""

    def __init__(self, *, read_only: bool = False) -> None:
        self.read_only = read_only
        self.added: list[str] = []
        self.launched: list[tuple[str, Mapping[str, Any], Sequence[str]]] = []

    def latest(self) -> Mapping[str, Any]:
        return {}

    def add(self, version: str) -> None:
        self.added.append(version)

    def launch(self, version: str, overrides: Mapping[str, Any], assets: Sequence[str] = ()) -> str:
        self.launched.append((version, overrides, assets))
        return "a-run"


class Studio:
    """Its pages, its runs, and the project's folder."""

    def __init__(self, root: Path, runs: Counted) -> None:
        self.root, self.runs = root, runs
        inside = Starlette(routes=[Mount(AT, studio(runs))])
        self.client = TestClient(Guard(inside, Addresses.of(3000)), base_url=HERE)

    def get(self, path: str, **options: Any) -> Any:
        return self.client.get(AT + path, **options)

    def post(self, path: str, body: Any, **options: Any) -> Any:
        return self.client.post(AT + path, json=body, **options)

    @property
    def files(self) -> dict[str, bytes]:
        """Everything in the folder, to see that nothing changed."""
        return {str(p.relative_to(self.root)): p.read_bytes() for p in sorted(self.root.rglob("*")) if p.is_file()}


def project_folder(root: Path, monkeypatch: pytest.MonkeyPatch, model: Path = Path("no-model"),
                   **settings: Any) -> Path:
    """A folder with the shipped constitutions and settings, which the studio reads."""
    if not (root / "constitutions").exists():
        shutil.copytree(REPOSITORY / "constitutions", root / "constitutions")
    settings = {"constitutions": str(root / "constitutions"), "data_root": str(root / "data"),
                "models": {"generator": {"source": str(model), "backend": "scripted"}}, **settings}
    (root / "settings.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("CAI_SETTINGS", str(root / "settings.yaml"))
    return root
