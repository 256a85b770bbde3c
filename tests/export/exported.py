"""A small history for exports: a version and its second round, on the scripted engine, with copies as trainings."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import dagster as dg
import pytest
from histories import History, copy_instead_of_training
from tiny_models import tiny_model

from cai_assets.constitution.model import Principle
from cai_assets.defs import launch
from cai_assets.defs.execute import materialize
from cai_assets.export.subject import Subject, find_subject
from cai_assets.store.layout import Layout
from cai_assets.store.records import Records
from cai_assets.versions.snapshots import VERSIONS


class World:
    """``version`` and its second round ``later``, materialized. The model lies outside of the data root."""

    def __init__(self, root: Path) -> None:
        self.history = History(root, tiny_model(root / "secret-place" / "tiny"))
        self.data = root / "data"
        self.layout = Layout(self.data)
        self.records = Records(self.layout)
        snapshots, own = self.history.project(self.data).snapshots, self.history.constitution
        parent = own.model_copy(update={"name": "harbor", "principles": (
            *own.principles[:1], Principle(id="tide", preference="Which answer names the tide?"))})
        snapshots.register(parent)
        self.history.constitution = own.model_copy(update={"parent": "harbor"})  # in no key
        self.version = snapshots.register(self.history.constitution)
        self.later = f"{self.version}-r2"
        for key in (self.version, self.later):
            with dg.DagsterInstance.ephemeral() as instance, pytest.MonkeyPatch.context() as patch:
                patch.setattr(launch, "_run", copy_instead_of_training)
                instance.add_dynamic_partitions(VERSIONS, [key])
                overrides = {**self.history.settings, "data_root": str(self.data)}
                assert materialize(instance, key, overrides=overrides).success

    def subject(self, asset: str = "rl_policy", version: str | None = None) -> Subject:
        return find_subject(self.layout, f"{asset}@{version or self.version}")


@lru_cache
def world() -> World:
    root = Path(tempfile.mkdtemp(prefix="cai-export-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return World(root)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its bytes."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def twice(write: Callable[[Path], object], folder: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What two exports wrote."""
    for name in ("one", "two"):
        write(folder / name)
    return contents(folder / "one"), contents(folder / "two")
