"""Why a training run may refuse to start or stop. The message is one line: what, where, and what to do."""

from __future__ import annotations

from cai_assets.errors import CaiError


class TrainingProblem(CaiError):
    """A training run cannot start or continue. Nothing is published."""
