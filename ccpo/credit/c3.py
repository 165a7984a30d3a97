"""C3: a message against its siblings, which answer the same context, at every depth of the tree.

For siblings j with mean outcome Q_j over their c_j leaves, C = sum c_j (arXiv 2603.06859v2, section
3):

    baseline "loo"         b_j(Q) = sum_{k != j} c_k Q_k / (C - c_j)
    baseline "full_mean"   b_j(Q) = sum_k c_k Q_k / C
    variant "reward_only"      c_j = Q_j - b_j(Q)
    variant "value_only"       c_j = q_j - b_j(q),     q_j = a critic's estimate of the outcome from
                               the message and what came before it
    variant "value_assisted"   c_j = Q_j - [(1 - alpha) b_j(Q) + alpha b_j(q)]
    0 for a message without siblings;                  group: the siblings

Under a group z-score both baselines give the same advantage, so the leave-one-out then changes
nothing; without normalisation it scales A by n / (n - 1): 2 for two siblings, 4/3 for four, and so
weighs the roles differently.
Source: official `c3/credit/c3/provider.py`; the paper's setting is `reward_only`. What the official
code does differently: its default is `value_assisted` with alpha = 1, where under a z-score A is
that of r_j + q_j / (n - 1): the critic's optimism is *added* to the reward; it does not weigh
ragged siblings by their leaves; its Q-critic has a logit offset in training only.
Departures: none for equal fan-out; the Q-critic has no such offset.
Cost: none beyond the tree; fan-out [2, 4] takes 10 messages and 8 evaluator calls a task, flat [8,
    1] takes 16 and 8.
"""

from typing import Literal

import numpy as np

from ccpo.team import Team
from ccpo.tree import Plan, Tree

VERSION = 1


def plan(team: Team, fanout: tuple[int, ...], *, variant: str = "reward_only", **_: object) -> Plan:
    """Needs turns that follow each other, and siblings in the last: another turn without never
    learns (as in the paper's fan-out 1 x 8). The value variants need a critic that reads the
    message.
    """
    if team.answer != "last":
        raise ValueError(
            "credit c3 compares continuations of one transcript; this team's answer is a "
            f"{team.answer}. Use ccpo_vote or shapley"
        )
    alone = tuple(turn for turn, n in enumerate(fanout) if n < 2)
    if fanout[-1] < 2:
        raise ValueError(
            f"credit c3 compares siblings, but fan-out {list(fanout)} gives the messages of turn "
            f"{len(fanout) - 1} none, so that who answers would never learn. "
            "Use at least 2 there, as [2, 4]"
        )
    return Plan(fanout, critic="" if variant == "reward_only" else "message", untaught=alone)


def degenerate(compares: str, *, variant: str, **_: object) -> str:
    """Without a critic, under any baseline of the group, as far as the credit goes: the tree is
    what differs.
    """
    if compares != "group" or variant != "reward_only":
        return ""
    return (
        "among siblings its advantage is the shared reward's, n / (n - 1) times centred (under a "
        "z-score leave-one-out and full mean are "
        "the same): what differs is the tree, not the credit"
    )


def credit(
    tree: Tree,
    *,
    variant: Literal["reward_only", "value_only", "value_assisted"] = "reward_only",
    baseline: Literal["loo", "full_mean"] = "loo",
    alpha: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Outcome (or the critic's estimate of it) minus the siblings' baseline; groups are the
    siblings of one parent (at the root: of one task).
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"credit c3: alpha={alpha} must be in [0, 1]")
    family = np.where(tree.parent >= 0, tree.parent, len(tree) + tree.task)
    group = np.where(
        tree.factual, np.unique(family, return_inverse=True)[1].reshape(-1), -1
    ).astype(np.int64)
    used = np.flatnonzero(tree.factual)
    g = group[used]
    reward = tree.reward[used]
    leaves = tree.n_leaves[used].astype(float)
    estimate = tree.value[used]
    if variant == "reward_only":
        difference = reward - _base(reward, leaves, g, baseline)
    elif np.isnan(estimate).any():
        raise ValueError(
            f"credit c3: message {int(used[np.isnan(estimate)][0])} has no value of a critic, "
            f"variant {variant} needs one"
        )
    elif variant == "value_only":
        difference = estimate - _base(estimate, leaves, g, baseline)
    else:
        difference = (
            reward
            - (1 - alpha) * _base(reward, leaves, g, baseline)
            - alpha * _base(estimate, leaves, g, baseline)
        )
    value = np.zeros(len(tree))
    value[used] = np.where(np.bincount(g)[g] > 1, difference, 0.0)
    return value, group


def _base(q: np.ndarray, leaves: np.ndarray, group: np.ndarray, baseline: str) -> np.ndarray:
    """Baseline [K] of each message: the mean over its siblings' leaves, its own left out under
    `loo`.
    """
    own = leaves if baseline == "loo" else np.zeros_like(leaves)
    total = np.bincount(group, leaves * q)[group]
    weight = np.bincount(group, leaves)[group]
    return (total - own * q) / np.maximum(weight - own, 1e-300)
