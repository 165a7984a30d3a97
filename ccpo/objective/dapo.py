"""DAPO: as grpo, with a wider upper clip.

Source: arXiv 2503.14476; its dynamic sampling and length penalty are not part of a loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Lt

from ccpo.objective import Batch, grpo
from ccpo.objective.grpo import divisor as divisor

if TYPE_CHECKING:
    import torch

VERSION = 1
KL = "loss"


def loss(
    batch: Batch,
    *,
    clip_low: Annotated[float, Gt(0), Lt(1)] = 0.2,
    clip_high: Annotated[float, Gt(0)] = 0.28,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As grpo."""
    return grpo.loss(batch, clip_low=clip_low, clip_high=clip_high)
