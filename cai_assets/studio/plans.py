"""A plan as a part of a page."""

from __future__ import annotations

from collections.abc import Iterator

from cai_assets.pipeline.project import Project
from cai_assets.plan import fits
from cai_assets.plan.formats import keeping
from cai_assets.plan.models import said_of_models
from cai_assets.plan.plan import Plan
from cai_assets.plan.space import said
from cai_assets.plan.words import bounds, in_short, number, remarks, sampled
from cai_assets.studio.pages import fragment


def as_html(project: Project, plan: Plan, *, in_words: bool = False) -> str:
    """The plan by asset, its causes and its remarks. ``in_words``: with its summary above them."""
    return fragment("plan.html.j2", plan=plan, bounds=bounds, number=number, remarks=list(_remarks(project, plan)),
                    summary=in_short(plan) if in_words else "")


def _remarks(project: Project, plan: Plan) -> Iterator[str]:
    every = [*said_of_models(project), *remarks(plan), *sampled(project.settings.models), said(project, plan),
             *fits.said(project, plan), keeping(project, plan.causes())]
    return (str(one) for one in every if one)
