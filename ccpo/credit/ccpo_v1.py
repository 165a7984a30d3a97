"""CCPO v1 dyad: the difference to a solo sample for the first agent, a mixture for the second, both
against the history of training.

With R_k the joint and S_k the solo outcome in {0, 1} of rollout k (paired by index), D_k = R_k -
S_k, and for each of the streams D, R, S the moving mean mu and variance V of its batches *before*
this one (mu <- d mu + (1 - d) m, V <- d V + (1 - d) v; at first m and v), sigma = sqrt(V) if V >
eps else 1, z_X = (X - mu_X) / (sigma_X + eps):

    history on:   c_1 = tanh(alpha z_D),   c_2 = g z_R + (1 - g) z_S,   g = sigmoid(clip(eta mu_D /
                  (sigma_D + eps), -20, 20))
                  until `min_samples` were seen: c_1 = D, c_2 = R
    history off:  c_1 = (R - S) / 2,       c_2 = (R + S) / 2            (Shapley split of two
                  players, c_1 + c_2 = R)
    mask_unfinished: a message cut at its largest length has c = 0

What it amounts to: a z-score of the group follows (`group_z`, ddof 1), which cancels the history
almost wholly for the first agent (exactly where D has two values in the group), and c_2 pays the
joint answer for an unrelated solo sample. A truncated answer's 0 is *better* than a wrong one's
negative value once history is on.
Source: arXiv 2603.21563v1, equations 2 to 4; official
    `CCPO-v1/.../reward_manager/{historical_normalizer,leave_one_out_rema}.py`.
What the official code does differently: history is lost on resume (here it is saved); with history
    off it crashes (undefined name).
Departures: the optional format term (+-0.25 for a box) is not offered; in a tree R is the mean of
    the leaves.
Cost: `episodes` further messages of the second agent and evaluator calls for each task.
"""

from collections.abc import Mapping

import numpy as np

from ccpo.credit import paired, sibling_groups
from ccpo.team import Team
from ccpo.tree import Plan, Removal, Tree

VERSION = 1
STREAMS = ("difference", "joint", "solo")


def plan(team: Team, fanout: tuple[int, ...], **_: object) -> Plan:
    """As many solo samples of the second agent as joint episodes; needs two agents of whom the
    second answers.
    """
    if team.answer != "last" or team.agents != 2 or not team.without(0):
        raise ValueError(
            "credit ccpo_v1 removes the first of two agents and asks the second alone; use it "
            "with team think_reason"
        )
    return Plan(fanout, removals=(Removal(agent=0, n=Plan(fanout).episodes),))


def degenerate(compares: str, **_: object) -> str:
    """Never: the paired solo sample varies inside a group (as noise does)."""
    return ""


def _streams(tree: Tree) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Factual messages [F] that take part, and the joint and solo outcome [F] paired with each."""
    solo = np.flatnonzero((tree.removed == 0) & tree.leaf)
    rows = np.flatnonzero(tree.factual)
    outcome = np.empty(len(rows))
    for agent in (0, 1):
        own = tree.agent[rows] == agent
        task = tree.task[rows[own]]
        outcome[own] = paired("ccpo_v1", task, tree.task[solo], tree.reward[solo])
    return rows, tree.reward[rows], outcome


def remember(
    tree: Tree,
    memory: Mapping[str, float],
    *,
    history: bool,
    decay: float,
    alpha: float,
    eta: float,
    eps: float,
    min_samples: int,
    mask_unfinished: bool,
) -> dict[str, float]:
    """Moving mean and variance of each stream, and the number of samples seen."""
    rows, joint, solo = _streams(tree)
    answers = tree.agent[rows] == 1
    joint = joint[answers]
    solo = solo[answers]
    seen = {"samples": memory.get("samples", 0.0) + len(joint)}
    keep = decay if memory else 0.0
    for name, x in zip(STREAMS, (joint - solo, joint, solo), strict=True):
        for kind, now in (("mean", float(x.mean())), ("variance", float(x.var()))):
            seen[f"{name}_{kind}"] = keep * memory.get(f"{name}_{kind}", 0.0) + (1 - keep) * now
    return seen


def credit(
    tree: Tree,
    memory: Mapping[str, float] | None = None,
    *,
    history: bool = True,
    decay: float = 0.99,
    alpha: float = 1.0,
    eta: float = 1.0,
    eps: float = 1e-6,
    min_samples: int = 10,
    mask_unfinished: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Credit of both agents; groups are the messages of one task and turn."""
    if not 0 <= decay < 1:
        raise ValueError(f"credit ccpo_v1: decay={decay} must be in [0, 1)")
    rows, joint, solo = _streams(tree)
    first = tree.agent[rows] == 0
    if not history:
        own = np.where(first, joint - solo, joint + solo) / 2
    elif not memory or memory["samples"] < min_samples:
        own = np.where(first, joint - solo, joint)
    else:
        mean, sigma = (
            [memory[f"{name}_{kind}"] for name in STREAMS] for kind in ("mean", "variance")
        )
        sigma = [v**0.5 if v > eps else 1.0 for v in sigma]
        z = [
            (x - m) / (s + eps)
            for x, m, s in zip((joint - solo, joint, solo), mean, sigma, strict=True)
        ]
        gate = 1 / (1 + np.exp(-np.clip(eta * mean[0] / (sigma[0] + eps), -20, 20)))
        own = np.where(first, np.tanh(alpha * z[0]), gate * z[1] + (1 - gate) * z[2])
    value = np.zeros(len(tree))
    value[rows] = np.where(tree.truncated[rows], 0.0, own) if mask_unfinished else own
    return value, sibling_groups(tree)
