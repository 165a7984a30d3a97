"""What changes in the course of a training by itself: the learning rate, and the weight of a
divergence that is steered.
"""

from __future__ import annotations

import math

from ccpo.config import Objective, Train

STEEPEST = 0.2  # of the relative error of a divergence: what is believed of it


def progress(train: Train, step: int, generated: int) -> float:
    """Share of a training [0, 1] that is over before update `step` (from 0), by whichever of its
    two limits is nearer: updates, or generated tokens.
    """
    tokens = generated / train.tokens if train.tokens else 0.0
    return min(1.0, max(step / train.steps, tokens))


def learning_rate(train: Train, step: int, generated: int) -> float:
    """The learning rate of update `step` (from 0).

    It rises linearly over the warm-up of W updates, (step + 1) / (W + 1), and then stays, or falls
    to `floor` of itself at the end: linearly, or as half a cosine (SGDR, arXiv 1608.03983, equation
    5, without restarts).
    """
    over = progress(train, step, generated)
    updates = over * train.steps if train.warmup_share else step
    warmup = train.warmup_share * train.steps or train.warmup
    risen = min(1.0, (updates + 1) / (warmup + 1))
    share = warmup / train.steps
    fallen = max(0.0, over - share) / (1 - share) if share < 1 else 0.0
    left = {
        "constant": 1.0,
        "linear": 1 - fallen,
        "cosine": (1 + math.cos(math.pi * fallen)) / 2,
    }[train.schedule]
    return train.lr * risen * (train.floor + (1 - train.floor) * left)


def steered(objective: Objective, weight: float, divergence: float, messages: int) -> float:
    """The weight of the divergence after an update of so many messages, whose mean divergence was
    so many nats per token: larger where that is above the target, smaller where it is below.

    Source: Ziegler et al. 2019, arXiv 1909.08593, section 2.2.
    """
    if objective.kl_target is None:
        return weight
    error = divergence / objective.kl_target - 1
    bounded = min(STEEPEST, max(-STEEPEST, error))
    return weight * max(0.0, 1 + bounded * messages / objective.kl_horizon)
