"""What in-process engines that serve a model folder share."""

from __future__ import annotations

from pathlib import Path

from cai_assets import settings
from cai_assets.engines.models import context_length
from cai_assets.engines.number_format import number_format
from cai_assets.engines.protocol import ModelIdentity


class FolderEngine:
    """One model folder, and how to run it. Cheap: nothing is loaded. ``context``: in tokens.

    Its identity names the number format it runs in, never 'auto'.
    """

    def __init__(self, path: Path, identity: ModelIdentity, engine: settings.Engine) -> None:
        self.path = path
        self.settings = engine.model_copy(update={"dtype": number_format(engine.dtype).dtype})
        self.context = context_length(path, engine.max_model_len)
        self._identity = identity.model_copy(update={"dtype": self.settings.dtype})

    @property
    def identity(self) -> ModelIdentity:
        return self._identity
