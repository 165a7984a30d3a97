"""ReMA's turn ratio, doubly clipped; mean over messages.

    r = exp(min(mean_t log rho_t, 3)), clipped; for A < 0 the loss is at most 3 |A| (dual clip,
        arXiv 1912.09729)

Source: ReMA, arXiv 2503.09501, section 3.3, with the constants of CCPO v1's script (clip mode
    `turn`).
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
LOG_RATIO = 3.0
DUAL = 3.0


def loss(
    batch: Batch,
    *,
    clip_low: Annotated[float, Gt(0), Lt(1)] = 0.2,
    clip_high: Annotated[float, Gt(0)] = 0.2,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum over messages, and the messages that a clip cuts."""
    ratio = batch.mean_log_ratio().clamp_max(LOG_RATIO).exp()
    return clipped(ratio, batch.advantage, batch.mask.any(1), clip_low, clip_high, dual=DUAL)


def divisor(lengths: Sequence[int], longest: int) -> int:
    """The number of messages."""
    return len(lengths)
