"""What a training can refuse or stop for. The message is one line that says what, where and what to do."""

from __future__ import annotations


class TrainingProblem(RuntimeError):
    """A training cannot start or go on. Nothing is published."""
