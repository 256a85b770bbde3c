"""The project as a Dagster resource, with the launchpad's overrides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import dagster as dg
from pydantic import Field

from cai_assets.engines.number_format import number_format
from cai_assets.pipeline.project import Project

# What the user typed for runs of this process. A run that a page asks for has a process of its own, where it is empty.
_typed: ContextVar[Mapping[str, Any]] = ContextVar("typed", default=MappingProxyType({}))


@contextmanager
def typed(overrides: Mapping[str, Any]) -> Iterator[None]:
    """Runs in this block may have these settings in their config, whatever they are: the command line's."""
    token = _typed.set(overrides)
    try:
        yield
    finally:
        _typed.reset(token)


class ProjectResource(dg.ConfigurableResource[Project]):
    """Opens the project for one run: its engines are given back when the run ends.

    ``overrides`` are settings as in the settings file, such as ``{"rl": {"beta": 0.1}}``; ``scale`` is the dial.
    An unknown key is an error, and so is what only the user's own hand may set (``settings/run_config.py``).
    """

    scale: str = Field(default="", description="smoke, small, or full; empty: from the settings file or the "
                                               "environment")
    overrides: dict[str, Any] = Field(default={}, description="any other settings, nested as 'cai settings' prints "
                                                              "them")

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Project]:
        chosen = {**self.overrides, **({"scale": self.scale} if self.scale else {})}
        project = Project.open(_typed.get(), run_config=chosen)
        chosen_format = number_format(project.settings.engine.dtype)
        if context.log:
            context.log.info(f"number format {chosen_format.dtype}, because {chosen_format.reason}")
        try:
            yield project
        finally:
            project.close()
