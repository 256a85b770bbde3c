"""One project: settings and everything they open. What the CLI and the Dagster side both stand on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cai_assets.engines.pool import EnginePool
from cai_assets.engines.replay import ReplayPool
from cai_assets.settings import Settings, load_settings
from cai_assets.store.checkpoints import Checkpoints
from cai_assets.store.layout import Layout
from cai_assets.store.records import Records
from cai_assets.store.row_store import RowStore
from cai_assets.versions.snapshots import Snapshots


class Project:
    """Opens nothing heavy by itself: models load when a step first runs them."""

    def __init__(self, settings: Settings, *, asks: bool = True, trains: bool = True) -> None:
        """Where nothing ``asks`` or nothing ``trains``, what is not stored under its key is an error."""
        self.settings, self.trains = settings, trains
        self.layout = Layout(settings.data_root)
        self.store = RowStore(self.layout)
        self.records = Records(self.layout)
        self.checkpoints = Checkpoints(self.layout)
        self.snapshots = Snapshots(self.layout)
        self.engines = (EnginePool if asks else ReplayPool)(settings, self.layout)

    @classmethod
    def open(
        cls, overrides: Mapping[str, Any] | None = None, *, run_config: Mapping[str, Any] | None = None,
        asks: bool = True, trains: bool = True,
    ) -> Project:
        """``overrides``: typed by the user; ``run_config``: from elsewhere. Raise SettingsError."""
        return cls(load_settings(overrides, run_config=run_config), asks=asks, trains=trains)

    def close(self) -> None:
        """Give engine memory back."""
        self.engines.close()
