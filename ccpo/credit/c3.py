"""C3: a message against its siblings, which answer the same context, at every depth of the tree.

For siblings j with mean outcome Q_j over their c_j leaves, C = sum c_j (arXiv 2603.06859v2, section 3):

    baseline "loo"         b_j = sum_{k != j} c_k Q_k / (C - c_j)
    baseline "full_mean"   b_j = sum_k c_k Q_k / C
    c_j = Q_j - b_j;   0 for a message without siblings,      group: the siblings

Under a group z-score both baselines give the same advantage, so the leave-one-out then changes nothing; without normalisation it
scales A by n / (n - 1): 2 for two siblings, 4/3 for four, and so weighs the roles differently.
Source: official `c3/credit/c3/provider.py`, variant `reward_only` (the paper's setting). What the official code does differently: its
default is `value_assisted` with a Q-critic, whose optimism a z-score *adds* to the reward; no critic is trained here, so that variant is
not offered; it does not weigh ragged siblings by their leaves.
Departures: none for equal fan-out.
Cost: none beyond the tree; fan-out [2, 4] takes 10 messages and 8 evaluator calls a task, flat [8, 1] takes 16 and 8.
"""

from typing import Literal

import numpy as np

from ccpo.credit import GROUPED
from ccpo.team import Team
from ccpo.tree import Plan, Tree

VERSION = 1


def plan(team: Team, fanout: tuple[int, ...], **_: object) -> Plan:
    """Needs turns that follow each other, and siblings in each."""
    if team.answer != "last":
        raise ValueError(
            f"credit c3 compares continuations of one transcript; this team's answer is a {team.answer}. Use ccpo_vote or shapley"
        )
    if alone := [turn for turn, n in enumerate(fanout) if n < 2]:
        raise ValueError(
            f"credit c3 compares siblings, but fan-out {list(fanout)} gives the messages of turn {alone[0]} none, so it would never learn. "
            "Use at least 2 everywhere, as [2, 4]"
        )
    return Plan(fanout)


def degenerate(advantage: str, **_: object) -> str:
    """Under any baseline of the group, as far as the credit goes: the tree is what differs."""
    if advantage not in GROUPED:
        return ""
    same = "leave-one-out and full mean are the same under a z-score; " if advantage == "group_z" else ""
    return f"{same}among siblings its advantage is the shared reward's, n / (n - 1) times centred: what differs is the tree, not the credit"


def credit(tree: Tree, *, baseline: Literal["loo", "full_mean"] = "loo") -> tuple[np.ndarray, np.ndarray]:
    """Outcome minus the siblings' baseline; groups are the siblings of one parent (at the root: of one task)."""
    family = np.where(tree.parent >= 0, tree.parent, len(tree) + tree.task)
    group = np.where(tree.factual, np.unique(family, return_inverse=True)[1].reshape(-1), -1).astype(np.int64)
    used = np.flatnonzero(tree.factual)
    g, q, c = group[used], tree.reward[used], tree.n_leaves[used].astype(float)
    total, weight, size = np.bincount(g, c * q), np.bincount(g, c), np.bincount(g)
    own = c if baseline == "loo" else np.zeros_like(c)
    base = (total[g] - own * q) / np.maximum(weight[g] - own, 1e-300)
    value = np.zeros(len(tree))
    value[used] = np.where(size[g] > 1, q - base, 0.0)
    return value, group
