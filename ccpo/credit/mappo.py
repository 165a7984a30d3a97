"""MAPPO: a learned critic is the baseline; generalised advantage estimation over the messages of an
episode.

With V_i the critic's estimate of the outcome from the context of message i (what its author reads),
and one macro-step a message:

    delta_i = r_i + gamma V_next - V_i          r_i = outcome at the last message, else 0; V_next =
        0 after it
    c_i     = delta_i + gamma lam c_next,       group: messages of one task and turn (for
            role_information; the paper has no groups)

In a tree "next" is the mean over a message's children. With gamma = lam = 1 this is c_i = outcome -
V_i.
Source: MAPPO as C3's baseline, arXiv 2603.06859v2, section 4 and Table 4; official
`c3/algorithms/mappo.py` (step-GAE). The advantage that follows there is `batch_whiten` over
messages, then divided by the message's tokens (`per_token`).
What the official code does differently: its critic starts from the policy model itself without
warm-up, the paper says mmBERT-base and 64 updates of warm-up; the token KL penalty is part of its
rewards (ours: `kl` of the objective).
Departures: the critic starts from the run's model (ccpo/learn/critic.py), warm-up as configured; no
    KL in the reward.
Cost: no message and no evaluator call beyond the episodes; one forward pass of the critic for each
    message, and its training.
"""

import numpy as np

from ccpo.credit import sibling_groups
from ccpo.team import Team
from ccpo.tree import Plan, Tree

VERSION = 1


def plan(team: Team, fanout: tuple[int, ...], **_: object) -> Plan:
    """Any team; a critic that reads a message's context."""
    return Plan(fanout, critic="context")


def degenerate(compares: str, **_: object) -> str:
    """Never as a whole. Under a baseline of the group the first turn is, since V of the question is
    one number for its group.
    """
    return ""


def credit(tree: Tree, *, gamma: float = 1.0, lam: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Step-GAE of every factual message; ValueError where the critic gave no value."""
    if not (0 <= gamma <= 1 and 0 <= lam <= 1):
        raise ValueError(f"credit mappo: gamma={gamma}, lam={lam} must be in [0, 1]")
    used = tree.factual
    if np.isnan(tree.value[used]).any():
        raise ValueError(
            f"credit mappo: message {int(np.flatnonzero(used & np.isnan(tree.value))[0])} has no "
            "value of a critic"
        )
    # delta, as far as it does not depend on what follows
    value = np.where(used, np.where(tree.leaf, tree.reward, 0.0) - tree.value, 0.0)
    for turn in range(int(tree.turn.max(initial=0)), -1, -1):
        child = np.flatnonzero(used & (tree.turn == turn) & (tree.parent >= 0))
        parent = tree.parent[child]
        width = np.bincount(parent, minlength=len(tree))[parent]  # siblings, whose mean is "next"
        value += np.bincount(
            parent, gamma * (tree.value[child] + lam * value[child]) / width, len(tree)
        )
    return value, sibling_groups(tree)
