"""Policy losses: pure torch functions of padded tensors, [S] sequences by [T] tokens.

`rollout_logprobs` are the behaviour policy's, of the full (untruncated) distribution at the sampling temperature. `loss_mask` is True
where a token takes part. Each returns the *sum* over its terms; dividing by `terms(...)` of the whole mini-batch gives the mean, so that a
mini-batch split into micro-batches has exactly the gradient of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

REMA_LOG_RATIO, REMA_DUAL = 3.0, 3.0


def grpo(
    policy_logprobs: torch.Tensor,
    rollout_logprobs: torch.Tensor,
    advantage: torch.Tensor,
    loss_mask: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ratio, clipped: -sum_t min(rho A, clip(rho, 1-low, 1+high) A). Advantage [S], or [S, T] by token.

    Source: GRPO, arXiv 2402.03300, equation 3, without the KL term; token mean over the mini-batch as in DAPO, arXiv 2503.14476.
    Returns (loss sum, number of terms whose gradient the clip removes).
    """
    ratio = torch.exp(torch.where(loss_mask, policy_logprobs - rollout_logprobs, 0.0))
    by_token = advantage if advantage.dim() == 2 else advantage[:, None].expand_as(ratio)
    return _clipped(ratio, by_token, loss_mask, clip_low, clip_high)


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


def rema_turn(
    policy_logprobs: torch.Tensor,
    rollout_logprobs: torch.Tensor,
    advantage: torch.Tensor,
    loss_mask: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn ratio r = exp(min(mean_t log rho_t, 3)), clipped, and for A < 0 the loss is at most 3 |A| (dual clip, arXiv 1912.09729).

    Source: ReMA, arXiv 2503.09501, section 3.3, with the constants of CCPO v1's script (`CCPO-v1`, clip mode `turn`).
    Returns (loss sum, number of messages whose gradient a clip removes).
    """
    length = loss_mask.sum(1).clamp_min(1)
    mean = torch.where(loss_mask, policy_logprobs - rollout_logprobs, 0.0).sum(1) / length
    ratio = torch.exp(mean.clamp_max(REMA_LOG_RATIO))
    return _clipped(ratio, advantage, loss_mask.any(1), clip_low, clip_high, dual=REMA_DUAL)


def _clipped(
    ratio: torch.Tensor, advantage: torch.Tensor, mask: torch.Tensor, low: float, high: float, dual: float = float("inf")
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clipped surrogate; `dual` bounds the ratio of a term with negative advantage."""
    free, clipped = ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage
    gain = torch.minimum(free, clipped)
    cut = clipped < free
    if dual < float("inf"):
        bound = dual * advantage
        cut = cut | ((advantage < 0) & (gain < bound))
        gain = torch.where(advantage < 0, torch.maximum(gain, bound), gain)
    return -torch.where(mask, gain, 0.0).sum(), (cut & mask).sum()


def kl_to_go(rollout_logprobs: torch.Tensor, reference_logprobs: torch.Tensor, loss_mask: torch.Tensor) -> torch.Tensor:
    """Sum over this and all later tokens [S, T] of log(behaviour / reference), the k1 estimate of their KL divergence.

    What a KL penalty in the reward takes from a token's return with gamma = 1: A_t = A - kl * kl_to_go (REINFORCE++, arXiv 2501.03262,
    section 3; there before the whitening, here after it, so that the divergence of one batch does not scale its advantages).
    """
    k1 = torch.where(loss_mask, rollout_logprobs - reference_logprobs, 0.0)
    return k1.flip(1).cumsum(1).flip(1)


def kl_k3(policy_logprobs: torch.Tensor, reference_logprobs: torch.Tensor, loss_mask: torch.Tensor) -> torch.Tensor:
    """Sum over tokens of x - log x - 1 with x = reference / policy, an estimate of KL(policy, reference) that is never negative.

    Source: GRPO, arXiv 2402.03300, equation 4; "k3" of Schulman's note on approximating KL divergence.
    """
    gap = torch.where(loss_mask, reference_logprobs - policy_logprobs, 0.0)
    return (gap.exp() - gap - 1).sum()


def terms(name: str, lengths: Sequence[int], longest: int) -> int:
    """What an objective's sum over messages of these lengths is divided by: their tokens (grpo, dapo, reinforce_pp), their number (gspo,
    rema_turn), or their number times the longest allowed message (dr_grpo), which is the same whatever the lengths."""
    if name in ("grpo", "dapo", "reinforce_pp"):
        return sum(lengths)
    return len(lengths) * (longest if name == "dr_grpo" else 1)


OBJECTIVES: dict[str, Callable[..., tuple[torch.Tensor, torch.Tensor]]] = {
    "grpo": grpo,
    "dapo": grpo,  # DAPO and Dr. GRPO have GRPO's terms; they differ in the clip's defaults (ccpo.config) and in the divisor (`terms`)
    "dr_grpo": grpo,
    "reinforce_pp": grpo,  # its divergence is part of the advantage: `kl_to_go`
    "gspo": gspo,
    "rema_turn": rema_turn,
}
