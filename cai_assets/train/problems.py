"""What a training can refuse or stop for. The message is one line that says what, where and what to do."""

from __future__ import annotations

from cai_assets.errors import CaiError


class TrainingProblem(CaiError):
    """A training cannot start or go on. Nothing is published."""
