"""One finished graph on the real model, real vLLM and real TRL, for every test that needs one; smaller than smoke.

Made once for a session (``demo`` in conftest.py): it costs more than all other tests of the real model together.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import patience
import polars as pl
from model_fixtures import prepared_model

from cai_assets.assets import partition_of
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, Records

REPOSITORY = Path(__file__).parents[1]
SMALLER = {
    "CAI_PROMPTS__RED_TEAM": "8", "CAI_PROMPTS__HELPFUL": "4", "CAI_PROMPTS__EVAL_RED_TEAM": "3",
    "CAI_PROMPTS__EVAL_HELPFUL": "3", "CAI_GENERATION__MAX_TOKENS": "40", "CAI_EVALUATION__MAX_TOKENS": "32",
    "CAI_RL__STEPS": "2", "CAI_RL__MAX_TOKENS": "16", "CAI_REWARD__EPOCHS": "1",
    "CAI_EVALUATION__SUITES": '["harmful", "ability"]', "CAI_EVALUATION__SUITE_CASES": "1",
    "CAI_EVALUATION__ROUND_CHAINS": "2", "CAI_GATE__PAIRS": "8",
}


class Demo:
    """Runs ``cai demo`` on a home and data root of its own, and reads what it made.

    ``output``, ``progress``: what the first run wrote to stdout and stderr; ``told``: what the last wrote to stderr.
    """

    output: str
    progress: str
    told: str

    def __init__(self, root: Path) -> None:
        self.home, self.data = root / "home", root / "data"
        (self.data / "models").mkdir(parents=True)
        model = prepared_model().path
        (self.data / "models" / model.name).symlink_to(model)
        self.records = Records(Layout(self.data))
        self.constitutions = root / "constitutions"
        shutil.copytree(REPOSITORY / "constitutions", self.constitutions)

    def run(self, *arguments: str, program: Sequence[str] = ("-m", "cai_assets.cli")) -> str:
        env = {**os.environ, **SMALLER, "DAGSTER_HOME": str(self.home), "CAI_DATA_ROOT": str(self.data),
               "CAI_CONSTITUTIONS": str(self.constitutions)}
        command = [sys.executable, *program, *(arguments or ("demo",))]
        done = patience.run(command, self.data, cwd=REPOSITORY, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        self.told = done.stderr
        return done.stdout

    def record(self, asset: str, version: str | None = None) -> Record:
        first = version or self.records.partitions("sl_policy")[0]
        return self.records.latest(asset, partition_of(asset, first))

    def table(self, asset: str) -> pl.DataFrame:
        return self.records.table(self.record(asset))

    def folder(self, asset: str) -> Path:
        return self.data / self.record(asset).path
