"""The constitution as prompts show it: with the reason of each principle, where the settings ask for reasons."""

from __future__ import annotations

from cai_assets.constitution.clauses import explained
from cai_assets.constitution.model import Constitution
from cai_assets.settings import Critique, Labels, Settings


def for_critics(c: Constitution, settings: Critique) -> Constitution:
    """A revision prompt holds the critique request with its reason already, unless there is no critique."""
    return explained(c, ("revision" if settings.mode == "direct" else "critique",)) if settings.why else c


def for_labels(c: Constitution, settings: Labels) -> Constitution:
    """What the labeler is asked by."""
    return explained(c, ("preference",)) if settings.why else c


def as_asked(c: Constitution, settings: Settings) -> Constitution:
    """Both at once: two of these differ where a prompt does."""
    return for_labels(for_critics(c, settings.critique), settings.labels)
