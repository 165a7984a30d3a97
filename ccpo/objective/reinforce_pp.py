"""REINFORCE++: as grpo, but the KL divergence is part of the reward, token by token; goes with advantage `batch_whiten`.

Source: arXiv 2501.03262.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Lt

from ccpo.objective import Batch, grpo

if TYPE_CHECKING:
    import torch

VERSION = 1
KL = "reward"


def loss(
    batch: Batch, *, clip_low: Annotated[float, Gt(0), Lt(1)] = 0.2, clip_high: Annotated[float, Gt(0)] = 0.2
) -> tuple[torch.Tensor, torch.Tensor]:
    """As grpo."""
    return grpo.loss(batch, clip_low=clip_low, clip_high=clip_high)


def divisor(lengths: Sequence[int], longest: int) -> int:
    """The tokens of all messages."""
    return sum(lengths)
