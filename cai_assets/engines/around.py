"""An engine around another one: it is the other in everything that it does not say itself."""

from __future__ import annotations

from collections.abc import Mapping

from cai_assets.engines.protocol import Engine, ModelIdentity, aside, flows, servers, wake


class Around:
    """``engine``: the one inside."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def identity(self) -> ModelIdentity:
        return self.engine.identity

    @property
    def flows(self) -> bool:
        return flows(self.engine)

    @property
    def aside(self) -> bool:
        return aside(self.engine)

    def wake(self, end: Exception | None = None) -> None:
        wake(self.engine, end)

    @property
    def servers(self) -> Mapping[str, str]:
        return servers(self.engine)

    def close(self) -> None:
        self.engine.close()
