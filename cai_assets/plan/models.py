"""What does not work, or only adapted, of the models that a plan's calls ask: its first lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from cai_assets.engines.chat_template import ChatTemplate
from cai_assets.engines.model_check import of_template, troubles
from cai_assets.engines.models import prepare
from cai_assets.engines.pool import resolve_backend
from cai_assets.pipeline.project import Project
from cai_assets.registry.engines import BACKENDS
from cai_assets.settings import Model, Role


def said_of_models(project: Project) -> Iterator[str]:
    """A line for each thing, with the roles that the model has. Only templates that are here are looked at."""
    roles: dict[Model, list[str]] = {}
    for role in get_args(Role):
        roles.setdefault(project.settings.models.role(role), []).append(role)
    for model, who in roles.items():
        if (template := _template(project, model)) is not None:
            for trouble in troubles(of_template(template, model.thinking)):
                yield f"{model.source} ({', '.join(who)}): {trouble}"


def _template(project: Project, model: Model) -> ChatTemplate | None:
    if BACKENDS[resolve_backend(model)].in_process:
        return ChatTemplate.in_folder(prepare(model, project.layout).path)
    return ChatTemplate.in_folder(Path(model.tokenizer)) if model.tokenizer else None
