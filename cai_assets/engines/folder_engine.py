"""What in-process engines that serve a model folder share."""

from __future__ import annotations

import logging
from pathlib import Path

from cai_assets import settings
from cai_assets.engines.models import context_length
from cai_assets.engines.number_format import number_format
from cai_assets.engines.protocol import ModelIdentity, Request
from cai_assets.engines.templating import Templater, load_tokenizer

log = logging.getLogger(__name__)


class FolderEngine:
    """One model folder, and how to run it. Cheap: nothing is loaded. ``context``: in tokens.

    Its identity names the number format it runs in, never 'auto'.
    """

    def __init__(self, path: Path, identity: ModelIdentity, engine: settings.Engine) -> None:
        self.path = path
        self.settings = engine.model_copy(update={"dtype": number_format(engine.dtype).dtype})
        self.context = context_length(path, engine.max_model_len)
        self._said: set[str] = set()
        self._identity = identity.model_copy(update={"dtype": self.settings.dtype})

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    def templater(self) -> Templater:
        """Of the model's tokenizer, for thinking as the identity says."""
        return Templater(load_tokenizer(self.path), self._identity.thinking)

    def adapted(self, templater: Templater, request: Request) -> tuple[str, ...]:
        """How a call is adapted to the model, and why; each way is said once."""
        adapted = templater.adapted(request.call)
        for why in (why for why in adapted if why not in self._said):
            self._said.add(why)
            log.warning("%s: %s", self.path.name, why)
        return adapted
