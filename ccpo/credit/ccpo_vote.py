"""CCPO for voting teams (arXiv 2603.21563v1): what the vote loses when one voter is left out.

    c_k = joint * R + lam * (R - R_-k),      R = outcome of the vote of all, R_-k = outcome of the vote of the others

No further decoding is needed. Unlike the dyad's baseline, R_-k varies inside a group with the other voters' answers, so it survives
group centring. Source: equation of Delta_k in v1; the official repository has no code for it.
Departures: the tie rule is explicit, since the paper's could not be recovered and it decides the method with three voters; the
history-aware treatment of v1 is the advantage `history`, not part of the credit; `joint` mixes in the team's outcome (0 in v1).
Cost: no message and no evaluator call beyond the episodes.
"""

from typing import Literal

import numpy as np

from ccpo.credit import sibling_groups
from ccpo.team import Team
from ccpo.tree import Removal, Tree

VERSION = 1


def check(team: Team) -> None:
    """Needs a vote."""
    if team.answer != "vote":
        raise ValueError(f"credit ccpo_vote needs a team that votes; this one's answer is its {team.answer} message")


def removals(team: Team, episodes: int, **_: object) -> tuple[Removal, ...]:
    """None: the votes of an episode are known."""
    return ()


def vote_outcome(answers: np.ndarray, tie: str) -> np.ndarray:
    """Expected outcome [E] of a plurality vote over answer classes [E, K] (0 = correct, -1 = abstains).

    tie: `wrong` pays nothing for a tie, `uniform` the share of the correct answer among the tied, `first` what the earliest tied voter
    said. Nobody votes: 0.
    """
    counts = ((answers[:, :, None] == answers[:, None, :]) & (answers[:, None, :] >= 0)).sum(2)
    counts = np.where(answers >= 0, counts, 0)
    best = counts.max(1, keepdims=True)
    tied = (counts == best) & (counts > 0)
    n_tied = (tied / np.maximum(counts, 1)).sum(1)  # distinct answers among the winners
    correct = (tied & (answers == 0)).any(1).astype(float)
    if tie == "uniform":
        return correct / np.maximum(np.round(n_tied), 1)
    if tie == "first":
        first = answers[np.arange(len(answers)), tied.argmax(1)]
        return ((first == 0) & tied.any(1)).astype(float)
    return correct * (np.round(n_tied) == 1)


def credit(
    tree: Tree, *, tie: Literal["wrong", "uniform", "first"] = "uniform", lam: float = 1.0, joint: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Leave-one-out difference of the vote; groups are the messages of one task and agent. Needs flat episodes."""
    leaves = np.flatnonzero(tree.leaf & tree.factual)
    paths = np.array([tree.path(leaf) for leaf in leaves], dtype=int)
    if paths.size != tree.factual.sum():
        raise ValueError("credit ccpo_vote needs flat episodes (fan-out [n, 1, 1]): a voter's message is shared by several votes")
    answers = tree.answer[paths]
    full = vote_outcome(answers, tie)
    value = np.zeros(len(tree))
    for k in range(paths.shape[1]):
        value[paths[:, k]] = joint * full + lam * (full - vote_outcome(np.delete(answers, k, axis=1), tie))
    return value, sibling_groups(tree)
