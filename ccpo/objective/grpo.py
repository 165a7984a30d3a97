"""GRPO: token-level importance ratio, clipped; mean over the mini-batch's tokens.

    L = -sum_t min(rho_t A, clip(rho_t, 1 - low, 1 + high) A) / tokens

Source: arXiv 2402.03300, equation 3, its KL term apart; the token mean over the mini-batch as in
    DAPO, arXiv 2503.14476.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Lt

from ccpo.objective import Batch, clipped

if TYPE_CHECKING:
    import torch

VERSION = 1
KL = "loss"


def loss(
    batch: Batch,
    *,
    clip_low: Annotated[float, Gt(0), Lt(1)] = 0.2,
    clip_high: Annotated[float, Gt(0)] = 0.2,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum over tokens, and the tokens that are cut. Advantage [S], or [S, T] by token."""
    ratio = batch.log_ratio().exp()
    advantage = batch.advantage
    by_token = advantage if advantage.dim() == 2 else advantage[:, None].expand_as(ratio)
    return clipped(ratio, by_token, batch.mask, clip_low, clip_high)


def divisor(lengths: Sequence[int], longest: int) -> int:
    """The tokens of all messages."""
    return sum(lengths)
