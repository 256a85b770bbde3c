"""What a person should know beside the lines of a plan: for the terminal and for the studio."""

from __future__ import annotations

from cai_assets.constitution.model import Constitution
from cai_assets.pipeline.absent import said as said_of_halves
from cai_assets.pipeline.project import Project
from cai_assets.plan import fits
from cai_assets.plan.formats import keeping
from cai_assets.plan.plan import Plan
from cai_assets.plan.space import said
from cai_assets.plan.words import remarks, sampled


def besides(project: Project, plan: Plan, constitution: Constitution) -> list[str]:
    """The half that the version has, what the numbers mean, and what they need of disk, memory, and number format."""
    every = [said_of_halves(constitution), *remarks(plan), *sampled(project.settings.models), said(project, plan),
             *fits.said(project, plan), keeping(project, plan.causes())]
    return [one for one in every if one]
