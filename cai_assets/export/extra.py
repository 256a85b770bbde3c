"""Export errors, and imports of libraries that only exports need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cai_assets.errors import CaiError


class ExportError(CaiError):
    """Something cannot be exported. The message says what, where and what to do."""


@contextmanager
def extra() -> Iterator[None]:
    """Around imports of the optional libraries: one that is missing becomes ExportError, naming the extra."""
    try:
        yield
    except ModuleNotFoundError as e:
        raise ExportError(f"exports need {e.name}, which is not installed: install it with "
                          "pip install 'cai-assets[export]'") from None
