"""What a version does not have of the graph, because nothing asks for it: the one place that says so.

Half of the graph: without critique requests there is no supervised half. Reinforcement learning then starts from the
policy that the round starts from, labels are of its samples, and nothing is critiqued (RLAIF, Lee et al. 2023, *RLAIF
vs. RLHF*, section 2). Without preference requests the supervised half stands alone. And the documents about the
principles: settings ask for them, and a version has them in its first round alone, because later rounds start from a
policy that was trained on them.
"""

from __future__ import annotations

from cai_assets.assets import ASSETS, EVERY, HALVES, OWN, Part, members
from cai_assets.constitution.model import Constitution
from cai_assets.settings import Settings
from cai_assets.steps.questions import NoRequest
from cai_assets.versions.rounds import round_of


def absent(constitution: Constitution, settings: Settings | None = None, version: str = "") -> frozenset[str]:
    """The assets that ``version`` of this constitution does not have with these settings, or by default."""
    documents = settings is not None and settings.documents.on and round_of(version).before() is None

    def asked(part: Part) -> bool:
        if part.setting:
            return documents
        return any(getattr(p, request) for p in constitution.principles for request in part.requests)

    return frozenset(a.name for a in EVERY if a.part and not asked(a.part))


def why_absent(constitution: Constitution, asset: str) -> str:
    """Why a version does not have one of its absent assets."""
    part = ASSETS[asset].part
    if part is None:
        raise ValueError(f"every version has {asset}")
    why = (f"{part.setting} is 0, or this is a later round" if part.setting else
           f"no principle has a {part.requests[0]} request")
    return f"{constitution.name} {constitution.version} has no {asset}: {why}"


def said(constitution: Constitution) -> str:
    """The half that is left, in a line; empty for a constitution that has both."""
    gone = absent(constitution)
    without = [half for half in HALVES if gone.issuperset(members(half))]
    if not without:
        return ""
    left = [half.alone for half in HALVES if half not in without]
    requests = " and no ".join(f"{half.requests[0]} request" for half in without)
    return (f"No principle has a {requests}: {left[0] if left else 'nothing is trained'}. Not made: "
            + ", ".join(name for half in without for name in members(half)))


def last_policy(constitution: Constitution) -> str:
    """The policy that a version stands for, and that starts the next round."""
    return next((name for name in reversed(OWN) if name not in absent(constitution)), OWN[-1])


def refuse_absent(constitution: Constitution, asset: str, what: str) -> None:
    """Raise NoRequest if a setting wants what a version does not have."""
    if asset in absent(constitution):
        raise NoRequest(f"{what}: {why_absent(constitution, asset)}")
