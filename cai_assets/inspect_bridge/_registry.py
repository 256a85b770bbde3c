"""What Inspect finds here by the entry point ``inspect_ai`` (pyproject.toml)."""

from cai_assets.inspect_bridge.provider import CaiAPI
from cai_assets.inspect_bridge.scorers import (
    by_request,
    compliance,
    correct,
    echo,
    judged_compliance,
    refusal,
    words,
)
from cai_assets.inspect_bridge.tasks import answer, letters, suite

__all__ = ["CaiAPI", "answer", "by_request", "compliance", "correct", "echo", "judged_compliance", "letters", "refusal",
           "suite", "words"]
