"""What Inspect finds through the entry point ``inspect_ai``; importing scorers creates one per measure."""

from cai_assets.inspect_bridge.provider import CaiAPI
from cai_assets.inspect_bridge.scorers import by_request, scorer_of
from cai_assets.inspect_bridge.tasks import answer, letters, suite

__all__ = ["CaiAPI", "answer", "by_request", "letters", "scorer_of", "suite"]
