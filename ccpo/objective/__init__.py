"""Policy losses: one file each, found by its name. This file holds only the contract, and what
several have in common.

An objective file has
  VERSION
      a whole number, bumped when its numbers change on purpose
  KL
      where a divergence from the starting policy enters: the "loss" (k3), or the "reward", token by
      token (k1)
  loss(batch, **params) -> (sum over its terms, number of terms whose gradient a clip removes)
      pure functions of tensors; params are keyword-only and are the config schema. The docstring
      gives formula and source
  divisor(lengths, longest) -> number
      what the sum over messages of these lengths (tokens) is divided by; `longest`: the longest
      allowed message. So micro-batches have together exactly the gradient of one batch
No file imports torch: tensors bring their own methods, and reading a configuration stays light.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from ccpo.contract import Contract

if TYPE_CHECKING:
    import torch

CONTRACT = Contract(
    constants={"VERSION": int, "KL": ("loss", "reward")},
    functions={"loss": ("batch",), "divisor": ("lengths", "longest")},
    schema="loss",
    docstring={"Source:": "`Source: <paper, equation>`"},
)


@dataclass(frozen=True)
class Batch:
    """Messages [S] of at most T tokens, padded: log-probs [S, T] of the policy and of the behaviour
    policy (of the full distribution at the sampling temperature), the advantage [S], or [S, T] by
    token, and the mask [S, T] of the tokens that take part.
    """

    policy_logprobs: torch.Tensor
    rollout_logprobs: torch.Tensor
    advantage: torch.Tensor
    mask: torch.Tensor

    def log_ratio(self) -> torch.Tensor:
        """Logarithm of the importance ratio by token [S, T], 0 where the mask is off."""
        return (self.policy_logprobs - self.rollout_logprobs).where(self.mask, 0.0)

    def mean_log_ratio(self) -> torch.Tensor:
        """Its mean over a message's tokens [S]."""
        return self.log_ratio().sum(1) / self.mask.sum(1).clamp_min(1)


def names() -> list[str]:
    """Names of all objectives: the files of this folder."""
    return sorted(file.name for file in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The objective file of this name; `names()` says which exist."""
    return CONTRACT.require(importlib.import_module(f"{__name__}.{name}"))


def clipped(
    ratio: torch.Tensor,
    advantage: torch.Tensor,
    mask: torch.Tensor,
    low: float,
    high: float,
    dual: float = float("inf"),
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clipped surrogate, -sum min(r A, clip(r, 1 - low, 1 + high) A) (PPO, arXiv 1707.06347,
    equation 7), and the terms that are cut;
    `dual` bounds the ratio of a term with negative advantage (arXiv 1912.09729).
    """
    free = ratio * advantage
    bounded = ratio.clamp(1 - low, 1 + high) * advantage
    gain = free.minimum(bounded)
    cut = bounded < free
    if dual < float("inf"):
        bound = dual * advantage
        cut = cut | ((advantage < 0) & (gain < bound))
        gain = gain.maximum(bound).where(advantage < 0, gain)
    return -gain.where(mask, 0.0).sum(), (cut & mask).sum()


def kl_to_go(
    rollout_logprobs: torch.Tensor, reference_logprobs: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Sum over this and all later tokens [S, T] of log(behaviour / reference), the k1 estimate of
    their KL divergence.

    What a KL penalty in the reward takes from a token's return with gamma = 1: A_t = A - kl *
    kl_to_go (REINFORCE++, arXiv 2501.03262, section 3; there before the whitening, here after it,
    so that the divergence of one batch does not scale its advantages).
    """
    k1 = (rollout_logprobs - reference_logprobs).where(mask, 0.0)
    return k1.flip(1).cumsum(1).flip(1)


def kl_k3(
    policy_logprobs: torch.Tensor, reference_logprobs: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Sum over tokens of x - log x - 1 with x = reference / policy, an estimate of KL(policy,
    reference) that is never negative.

    Source: GRPO, arXiv 2402.03300, equation 4; "k3" of Schulman's note on approximating KL
        divergence.
    """
    gap = (reference_logprobs - policy_logprobs).where(mask, 0.0)
    return (gap.exp() - gap - 1).sum()
