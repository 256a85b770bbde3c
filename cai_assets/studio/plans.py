"""A plan as a part of a page."""

from __future__ import annotations

from cai_assets.constitution.model import Constitution
from cai_assets.pipeline.project import Project
from cai_assets.plan.besides import besides
from cai_assets.plan.models import said_of_models
from cai_assets.plan.plan import Plan
from cai_assets.plan.words import bounds, in_short, number
from cai_assets.studio.pages import fragment


def as_html(project: Project, plan: Plan, constitution: Constitution, *, in_words: bool = False) -> str:
    """The plan by asset, its causes and its remarks. ``in_words``: with its summary above them."""
    remarks = [*said_of_models(project), *besides(project, plan, constitution)]
    return fragment("plan.html.j2", plan=plan, bounds=bounds, number=number, remarks=remarks,
                    summary=in_short(plan) if in_words else "")
