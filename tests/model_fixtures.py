"""The real model for tests that need one: converted once and kept between test runs."""

from __future__ import annotations

import os
from pathlib import Path

from cai_assets.engines.models import LocalModel, prepare
from cai_assets.settings import Model
from cai_assets.store.layout import Layout


def prepared_model() -> LocalModel:
    """The bundled model under the data root named by TESTS_DATA_ROOT, or <repository>/data."""
    root = os.environ.get("TESTS_DATA_ROOT") or Path(__file__).parents[1] / "data"
    return prepare(Model(), Layout(Path(root)))
