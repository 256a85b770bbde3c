"""The project's code location for a live server whose runs are counted: a training is a copy of its base, and the
scripted engine takes time for each row, so that progress has a rate.

A workspace of ``live_location``; everything else is as a person gets it.
"""

import time
from collections.abc import Iterable, Iterator

from histories import copy_instead_of_training

from cai_assets.definitions import defs
from cai_assets.defs import launch
from cai_assets.engines.protocol import Request, Result
from cai_assets.engines.scripted import Scripted

__all__ = ["defs"]

_at_once = Scripted.run


def _in_time(engine: Scripted, requests: Iterable[Request]) -> Iterator[Result]:
    for result in _at_once(engine, requests):
        time.sleep(0.02)
        yield result


launch._run = copy_instead_of_training
Scripted.run = _in_time
