"""Policy losses: pure torch functions of padded tensors, [S] sequences by [T] tokens.

`rollout_logprobs` are the behaviour policy's, of the full (untruncated) distribution at the sampling temperature. `loss_mask` is True
where a token takes part. Each returns the *sum* over its terms; dividing by `terms(...)` of the whole mini-batch gives the mean, so that a
mini-batch split into micro-batches has exactly the gradient of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch


def grpo(
    policy_logprobs: torch.Tensor,
    rollout_logprobs: torch.Tensor,
    advantage: torch.Tensor,
    loss_mask: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ratio, clipped: -sum_t min(rho A, clip(rho, 1-low, 1+high) A). Advantage [S].

    Source: GRPO, arXiv 2402.03300, equation 3, without the KL term; token mean over the mini-batch as in DAPO, arXiv 2503.14476.
    Returns (loss sum, number of terms whose gradient the clip removes).
    """
    ratio = torch.exp(torch.where(loss_mask, policy_logprobs - rollout_logprobs, 0.0))
    return _clipped(ratio, advantage[:, None].expand_as(ratio), loss_mask, clip_low, clip_high)


def gspo(
    policy_logprobs: torch.Tensor,
    rollout_logprobs: torch.Tensor,
    advantage: torch.Tensor,
    loss_mask: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequence ratio s = exp(mean_t log rho_t), clipped: -sum_i min(s A, clip(s) A).

    Source: GSPO, arXiv 2507.18071, equations 5 to 7. Returns (loss sum, number of sequences whose gradient the clip removes).
    """
    length = loss_mask.sum(1).clamp_min(1)
    ratio = torch.exp(torch.where(loss_mask, policy_logprobs - rollout_logprobs, 0.0).sum(1) / length)
    return _clipped(ratio, advantage, loss_mask.any(1), clip_low, clip_high)


def _clipped(
    ratio: torch.Tensor, advantage: torch.Tensor, mask: torch.Tensor, low: float, high: float
) -> tuple[torch.Tensor, torch.Tensor]:
    free, clipped = ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage
    loss = -torch.where(mask, torch.minimum(free, clipped), 0.0).sum()
    return loss, ((clipped < free) & mask).sum()


def terms(name: str, lengths: Sequence[int]) -> int:
    """Number of terms of an objective's mean over messages of these lengths: tokens for grpo, messages for gspo."""
    return sum(lengths) if name == "grpo" else len(lengths)


OBJECTIVES: dict[str, Callable[..., tuple[torch.Tensor, torch.Tensor]]] = {"grpo": grpo, "gspo": gspo}
