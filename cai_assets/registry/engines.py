"""What runs models: one row per backend (``models.*.backend``). To add one: its file, and a row here.

Your own package can add one through the entry point group ``cai_assets.engines``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from cai_assets.registry.base import Registry

AUTO = "auto"
SERVED = "openai"  # what 'auto' means for a model with base_urls
VLLM = "vllm"
LOCAL = (VLLM, "transformers")  # and for any other: the first that is installed, or else the last


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to run a model. ``factory`` makes an ``engines.protocol.Engine``, and is cheap: weights load on ``run``.

    ``in_process``: it serves a model folder here, trained checkpoints too, and holds the weights, so that only one
    is open at a time. ``factory(path, identity, engine_settings)``. Otherwise ``factory(model_setting,
    engine_settings)``. ``checkpoint(path, layout)``: the engine of a trained checkpoint, for a backend that is not
    in-process; None: such checkpoints run in-process anyway.
    ``adapters``: its engines are ``engines.adapters.TakesAdapters``: policies can be run on their base.
    ``needs``: packages to import; ``install``: how to get them.
    """

    factory: str
    in_process: bool
    checkpoint: str | None = None
    adapters: bool = False
    needs: tuple[str, ...] = ()
    install: str = ""

    @property
    def missing(self) -> str | None:
        """The first package it needs that is not installed."""
        return next((package for package in self.needs if find_spec(package) is None), None)


BACKENDS = Registry("engine backend", Backend, group="cai_assets.engines", own={
    VLLM: Backend(factory="cai_assets.engines.vllm_engine:VllmEngine", in_process=True, adapters=True,
                    needs=("vllm",), install="cai-assets[cpu] or cai-assets[gpu]"),
    "transformers": Backend(factory="cai_assets.engines.transformers_engine:TransformersEngine", in_process=True,
                            needs=("torch", "transformers"), install="cai-assets[train]"),
    "openai": Backend(factory="cai_assets.engines.served.engine:ServedEngine", in_process=False),
    "scripted": Backend(factory="cai_assets.engines.scripted:of_model", in_process=False,
                        checkpoint="cai_assets.engines.scripted:of_checkpoint"),
})


def local_backend() -> str:
    """The default for serving a model folder here."""
    return next((name for name in LOCAL if not BACKENDS[name].missing), LOCAL[-1])
