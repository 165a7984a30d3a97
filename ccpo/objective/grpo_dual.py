"""GRPO with a dual clip: as grpo, and for A < 0 the loss of a token is at most `dual` |A|.

Source: arXiv 1912.09729, equation 5, over arXiv 2402.03300, equation 3. It is what trainers built
    on verl call vanilla GRPO (`clip_ratio_c` 3.0), and so what CCPO's scripts ran (arXiv
    2603.21563v5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Lt

from ccpo.objective import Batch, clipped
from ccpo.objective.grpo import divisor as divisor

if TYPE_CHECKING:
    import torch

VERSION = 1
KL = "loss"


def loss(
    batch: Batch,
    *,
    clip_low: Annotated[float, Gt(0), Lt(1)] = 0.2,
    clip_high: Annotated[float, Gt(0)] = 0.2,
    dual: Annotated[float, Gt(1)] = 3.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum over tokens, and the tokens that are cut. Advantage [S], or [S, T] by token."""
    ratio = batch.log_ratio().exp()
    advantage = batch.advantage
    by_token = advantage if advantage.dim() == 2 else advantage[:, None].expand_as(ratio)
    return clipped(ratio, by_token, batch.mask, clip_low, clip_high, dual)
