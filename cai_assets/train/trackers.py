"""Where trainings draw their curves while they run (setting ``report_to``): TensorBoard, trackio, Weights & Biases.

They get the rows of ``curves.jsonl`` and nothing else: no settings, addresses or paths. Nothing here enters a key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, assert_never

from cai_assets.settings import SettingsError
from cai_assets.settings.model import Tracker
from cai_assets.train.job import Reports
from cai_assets.train.progress import Say

PROJECT = "cai-assets"
Track = Callable[[int, Mapping[str, float]], None]


class _Open(NamedTuple):
    """One that draws: by step, and what ends it."""

    log: Callable[[int, dict[str, float]], Any]
    close: Callable[[], Any]


def refuse_missing(trackers: Collection[Tracker]) -> None:
    """Raise SettingsError for one that is not installed, or that would ask for a key."""
    for name in trackers:
        if find_spec(name) is None:
            raise SettingsError(f"report_to: {name} is not installed: pip install {name}, or take it out of report_to")
    if "wandb" in trackers and not _may_send():
        raise SettingsError("report_to: wandb has no key: run 'wandb login', set WANDB_API_KEY, or set "
                            "WANDB_MODE=offline to keep the curves here")


@contextmanager
def tracking(reports: Reports | None, say: Say) -> Iterator[Track]:
    """What draws a row of a training's curves. One that fails is named once, and the training goes on without it."""
    there: dict[Tracker, _Open] = {}

    @contextmanager
    def unless_it_breaks(name: Tracker) -> Iterator[None]:
        try:
            yield
        except Exception as e:  # whatever a library of others raises: the training is worth more than its picture
            there.pop(name, None)
            say(f"report_to: {name} draws no more of this training ({type(e).__name__}: {e}); its checkpoint keeps the "
                "curves")

    def track(step: int, row: Mapping[str, float]) -> None:
        for tracker, one in list(there.items()):
            with unless_it_breaks(tracker):
                one.log(step, dict(row))

    if reports:
        for name in reports.to:
            with unless_it_breaks(name):
                there[name] = _open(name, reports)
    try:
        yield track
    finally:
        for name, one in list(there.items()):
            with unless_it_breaks(name):
                one.close()


def _open(name: Tracker, reports: Reports) -> _Open:
    match name:
        case "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(log_dir=str(reports.folder / name / reports.run))
            return _Open(lambda step, row: [writer.add_scalar(n, value, step) for n, value in row.items()],
                         writer.close)
        case "trackio":
            os.environ.setdefault("TRACKIO_DIR", str(reports.folder / name))
            import trackio

            trackio.init(project=PROJECT, name=reports.run, resume="allow", auto_log_gpu=False)
            return _Open(lambda step, row: trackio.log(row, step=step), trackio.finish)
        case "wandb":
            import wandb

            reports.folder.mkdir(parents=True, exist_ok=True)
            silent = wandb.Settings(x_disable_meta=True, x_disable_stats=True, x_save_requirements=False, console="off",
                                    disable_git=True, disable_code=True)
            run = wandb.init(project=PROJECT, name=reports.run, id=reports.run, resume="allow",
                             dir=str(reports.folder), settings=silent)
            return _Open(lambda step, row: run.log(row, step=step), run.finish)
        case _:
            assert_never(name)


def _may_send() -> bool:
    """Whether wandb starts without asking for a key, which a run has nobody to ask."""
    offline = os.environ.get("WANDB_MODE") in {"offline", "disabled", "dryrun"}
    return offline or bool(os.environ.get("WANDB_API_KEY")) or (Path.home() / ".netrc").exists()
