"""What Inspect finds here by the entry point ``inspect_ai`` (pyproject.toml); importing scorers makes one a measure."""

from cai_assets.inspect_bridge.provider import CaiAPI
from cai_assets.inspect_bridge.scorers import by_request, scorer_of
from cai_assets.inspect_bridge.tasks import answer, letters, suite

__all__ = ["CaiAPI", "answer", "by_request", "letters", "scorer_of", "suite"]
