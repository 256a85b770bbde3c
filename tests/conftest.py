from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

HERE = Path(__file__).parent
AREAS = ("defs", "e2e", "engines", "evals", "export", "faults", "lineage", "train")
sys.path[:0] = [str(HERE), *(str(HERE / area) for area in AREAS)]

from matrix import pytest_runtest_setup, pytest_terminal_summary  # noqa: E402, F401  in the folders named above
from object_store import moto_server, object_server, objects_url, root  # noqa: E402, F401
from patience import Guard  # noqa: E402

if TYPE_CHECKING:
    from finished_demo import Demo

# A shell's background job ignores SIGINT; Dagster gives SIGTERM the same handler, and no child would end by it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# An example may take as long as the machine needs.
hypothesis.settings.register_profile("any machine", deadline=None,
                                     suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any machine")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Each file runs in one worker, and those of lineage/, which read one history, in the one that makes it."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "lineage" if "tests/lineage/" in file else file

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True, scope="session")
def _no_test_hangs() -> Iterator[None]:
    with Guard():
        yield


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The finished graph of ``cai demo`` on the real model, to be read; a test that adds to it adds another version."""
    from finished_demo import Demo

    made = Demo(tmp_path_factory.mktemp("demo"))
    made.output = made.run()
    made.progress = made.told
    return made


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Inspect and Ray set handlers, levels and formats of the root logger: in a person's process that is their own."""
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    formats = [h.formatter for h in handlers]
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
    for handler, formatter in zip(handlers, formats, strict=True):
        handler.setFormatter(formatter)


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> Iterator[None]:
    """Settings of the person who runs the tests must not decide them, nor what fixtures of any scope make."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("CAI_")]:
            patch.delenv(name)
        yield
