"""Dr. GRPO: as grpo, divided by a constant instead of the messages' lengths.

    L = -sum_t min(rho_t A, clip(rho_t, 1 - low, 1 + high) A) / (messages x longest allowed message)

Source: arXiv 2503.20783.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Lt

from ccpo.objective import Batch, grpo

if TYPE_CHECKING:
    import torch

VERSION = 1
KL = "loss"


def loss(
    batch: Batch, *, clip_low: Annotated[float, Gt(0), Lt(1)] = 0.2, clip_high: Annotated[float, Gt(0)] = 0.2
) -> tuple[torch.Tensor, torch.Tensor]:
    """As grpo."""
    return grpo.loss(batch, clip_low=clip_low, clip_high=clip_high)


def divisor(lengths: Sequence[int], longest: int) -> int:
    """The number of messages times the longest allowed one, whatever their lengths."""
    return len(lengths) * longest
