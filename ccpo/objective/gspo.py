"""GSPO: one importance ratio for a message, the geometric mean of its tokens', clipped; mean over
messages.

    s = exp(mean_t log rho_t),   L = -sum_i min(s A, clip(s, 1 - low, 1 + high) A) / messages

Source: arXiv 2507.18071, equations 5 to 7.
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
    clip_low: Annotated[float, Gt(0), Lt(1)] = 3e-4,
    clip_high: Annotated[float, Gt(0)] = 4e-4,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum over messages, and the messages that are cut."""
    return clipped(
        batch.mean_log_ratio().exp(), batch.advantage, batch.mask.any(1), clip_low, clip_high
    )


def divisor(lengths: Sequence[int], longest: int) -> int:
    """The number of messages."""
    return len(lengths)
