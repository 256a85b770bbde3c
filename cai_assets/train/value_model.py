"""PPO's value model, its optimizer, and what is saved of both. Where the policy is sharded, so is a model of its own.

Imports torch at the top; it is itself imported only inside functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from cai_assets.settings import Lora
from cai_assets.train.lora import lora_config
from cai_assets.train.sharding import local

FILE = "value_state"


class ValueModel(nn.Module):  # type: ignore[misc]
    """The value of the state after each token, from a model with a scalar head, which starts at zero."""

    def __init__(self, scalar_model: Any, lora: Lora | None = None) -> None:
        super().__init__()
        self.trunk, self.head = scalar_model.base_model, scalar_model.score
        self._no_split_modules = self.trunk._no_split_modules  # by which accelerate divides a model
        if lora is not None:
            from peft import inject_adapter_in_model

            self.trunk = inject_adapter_in_model(lora_config(lora, "CAUSAL_LM"), self.trunk)
        nn.init.zeros_(self.head.weight)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, tokens) ids and mask to (batch, tokens) values."""
        hidden = self.trunk(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        values: Tensor = self.head(hidden).squeeze(-1).float()
        return values

    def trained(self) -> dict[str, Tensor]:
        """The parameters that are trained: all, or the adapters and the head."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


class ValueHead(nn.Module):  # type: ignore[misc]
    """The value of the state after each token, from the last hidden states of the policy itself, its trunk.

    The gradient of the value's loss goes on into the trunk, where the policy's optimizer takes it with the policy's
    own: one loss of both terms, as where policy and value share parameters in Schulman et al. 2017 (arXiv 1707.06347,
    equation 9) and in the code of Ziegler et al. 2019 (arXiv 1909.08593), whose weight of that term is 0.1. Stiennon
    et al. 2020 (arXiv 2009.01325, appendix G.1) saw it damage the policy early in training: so a model of its own is
    the default. Each process has the whole head.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, tokens, width) hidden states to (batch, tokens) values."""
        values: Tensor = self.head(hidden).squeeze(-1).float()
        return values

    def trained(self) -> dict[str, Tensor]:
        """The parameters that are trained."""
        return dict(self.named_parameters())


@contextmanager
def last_hidden(model: Any, *, when: bool = True) -> Iterator[list[Tensor]]:
    """The last hidden states, (rows, tokens, width), of each forward pass of a causal language model, with or without
    adapters, while this is open; none unless ``when``."""
    seen: list[Tensor] = []
    trunk = (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model
    hook = trunk.register_forward_hook(lambda *call: seen.append(call[-1].last_hidden_state)) if when else None
    try:
        yield seen
    finally:
        if hook is not None:
            hook.remove()


class ValueUpdates(TrainerCallback):  # type: ignore[misc]
    """Updates the value model whenever the policy is updated, with an optimizer of the same kind and its learning rate.

    An optimizer of its own, because that of a sharded policy can hold the policy's parameters only.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.model = trainer, trainer.value_model
        trained = trainer.accelerator.unwrap_model(self.model).trained()
        self.names = {parameter: name for name, parameter in trained.items()}
        kind, options = trainer.get_optimizer_cls_and_kwargs(trainer.args)
        self.optimizer = kind(list(trained.values()), **{**options, "weight_decay": 0.0})

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.trainer.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.optimizer.zero_grad()

    def file(self, folder: Path) -> Path:
        """Where this process saves: each its own part, where the model is sharded."""
        part = f"-{self.trainer.accelerator.process_index}" if self.trainer.is_fsdp_enabled else ""
        return folder / f"{FILE}{part}.safetensors"

    def save(self, folder: Path) -> None:
        """Write parameters and the optimizer's state."""
        tensors = {name: local(p.detach()).contiguous().clone() for p, name in self.names.items()}
        for parameter, name in self.names.items():
            tensors |= {f"{key}/{name}": local(value).contiguous().clone()
                        for key, value in self.optimizer.state[parameter].items() if isinstance(value, Tensor)}
        folder.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(tensors, str(self.file(folder)))

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote."""
        saved = safetensors.torch.load_file(self.file(folder))
        with torch.no_grad():
            for parameter, name in self.names.items():
                local(parameter).copy_(saved[name])
                state = {key: tensor for entry, tensor in saved.items()
                         for key, _, owner in [entry.partition("/")] if owner == name}
                self.optimizer.state[parameter] = {key: _like(parameter, tensor) for key, tensor in state.items()}


def _like(parameter: Tensor, part: Tensor) -> Tensor:
    """A tensor of the optimizer's state, divided as its parameter is."""
    if part.shape != local(parameter).shape:
        return part
    out = torch.empty_like(parameter, dtype=part.dtype)
    local(out).copy_(part)
    return out
