"""One undisturbed run that every disturbed one must equal in the end."""

from __future__ import annotations

import pytest
from dying import nothing, run_apart
from histories import History, stored
from tiny_models import tiny_model
from undisturbed import Undisturbed


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    history = History(folder, tiny_model(folder / "tiny"))
    root = folder / "data"
    assert run_apart(history, root, nothing) == 0
    version = history.project(root).snapshots.register(history.constitution)
    return Undisturbed(history, root, version, stored(root), history.digests(root, version))
