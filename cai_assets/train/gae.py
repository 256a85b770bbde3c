"""The arithmetic of PPO as pure functions on tensors of shape (batch, response tokens).

``mask`` is 1 on response tokens and 0 on the padding to their right. Nothing on the padding affects a result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation (Schulman et al. 2016, arXiv 1506.02438, equation 16).

    All tensors are (batch, tokens); ``values[:, t]`` is the value of the state before token t. Returns advantages
    and returns (advantage + value), both zero on padding. The value after the last token is zero.
    """
    import torch

    mask = mask.to(values.dtype)
    rewards, values = rewards * mask, values * mask
    advantage = torch.zeros_like(values[:, 0])
    following = torch.zeros_like(values[:, 0])
    columns = []
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * following - values[:, t]
        advantage = (delta + gamma * lam * advantage) * mask[:, t]
        following = values[:, t]
        columns.append(advantage)
    advantages = torch.stack(columns[::-1], dim=1)
    return advantages, (advantages + values) * mask


def token_rewards(score: Tensor, kl: Tensor, mask: Tensor, beta: float) -> Tensor:
    """``-beta * kl`` on every token, plus ``score`` (batch,) on the last one (Bai et al. 2022, section 4.1)."""
    import torch

    rewards = -beta * kl * mask
    last = (mask.long().sum(dim=1, keepdim=True) - 1).clamp(min=0)
    return torch.scatter_add(rewards, 1, last, score.to(rewards.dtype).unsqueeze(1))


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of ``x`` over the tokens that ``mask`` keeps."""
    return (x * mask).sum() / mask.sum().clamp(min=1)


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """Zero mean and unit variance over the tokens that ``mask`` keeps; zero elsewhere."""
    mean = masked_mean(x, mask)
    variance = masked_mean((x - mean) ** 2, mask)
    return (x - mean) * (variance + 1e-8).rsqrt() * mask


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the squared error, the worse of plain and clipped to ``old_values`` +- ``clip``, averaged over tokens.

    The value counterpart of the clipped surrogate (Schulman et al. 2017, arXiv 1707.06347, section 5; the clipping
    follows the authors' published code).
    """
    import torch

    clipped = old_values + (values - old_values).clamp(-clip, clip)
    worse = torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)
    return 0.5 * masked_mean(worse, mask)
