"""The base class of every error this package raises."""

from __future__ import annotations


class CaiError(Exception):
    """Something a person can fix. The message says what is wrong, where, and what to do.

    The command line prints the message and exits, in one place (``cli.common.Commands``). Any other exception is a bug
    and keeps its traceback.
    """
