"""Resources of a run: the project, with the launchpad's overrides, and nothing that passes values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import dagster as dg
from pydantic import Field

from cai_assets.defs.disk import prepare
from cai_assets.defs.logger import told_to
from cai_assets.engines.number_format import number_format
from cai_assets.pipeline.project import Project
from cai_assets.store import this_run

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

    # Any: for a str, Dagster would take {"env": NAME} from the run's config, and read that variable.
    scale: Any = Field(default="", description="smoke, small, or full; empty: from the settings file or the "
                                               "environment")
    overrides: dict[str, Any] = Field(default={}, description="any other settings, nested as 'cai settings' prints "
                                                              "them")

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Project]:
        chosen = {**self.overrides, **({"scale": self.scale} if self.scale else {})}
        this_run.begin()
        project = Project.open(_typed.get(), run_config=chosen)
        chosen_format = number_format(project.settings.engine.dtype)
        if context.log:
            context.log.info(f"number format {chosen_format.dtype}, because {chosen_format.reason}")
        try:
            with told_to(context.log):
                prepare(project, context.run)
                yield project
        finally:
            project.close()


class NoValues(dg.IOManager):
    """Assets pass records and files. Dagster's own manager would pickle values, into a folder that a config names."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        raise TypeError(f"{context.name!r} is returned as a value; write a table or checkpoint, and return its result")

    def load_input(self, context: dg.InputContext) -> Any:
        raise TypeError(f"{context.name!r} is loaded as a value; read the table or checkpoint of the asset above")
