"""CCPO for voting teams (arXiv 2603.21563v1): what the vote loses when one voter is left out.

    c_k = joint * R + lam * (R - R_-k),      R = outcome of the vote of all, R_-k = outcome of the
        vote of the others

No further decoding is needed. Unlike the dyad's baseline, R_-k varies inside a group with the other
voters' answers, so it survives group centring. Source: equation of Delta_k in v1; the official
repository has no code for it.
Departures: the tie rule is explicit, since the paper's could not be recovered and it decides the
method with three voters; the history-aware treatment of v1 is the advantage `history`, not part of
the credit; `joint` mixes in the team's outcome (0 in v1).
Cost: no message and no evaluator call beyond the episodes.
"""

from typing import Literal

import numpy as np

from ccpo.credit import flat_vote, sibling_groups
from ccpo.team import Team, vote_outcome
from ccpo.tree import Plan, Tree

VERSION = 1


def plan(team: Team, fanout: tuple[int, ...], **_: object) -> Plan:
    """Needs a vote; the votes of an episode are known, so nothing more is drawn."""
    flat_vote("ccpo_vote", team, fanout)
    return Plan(fanout)


def degenerate(compares: str, **_: object) -> str:
    """Never: what the others would vote varies inside a group."""
    return ""


def credit(
    tree: Tree,
    *,
    tie: Literal["wrong", "uniform", "first"] = "uniform",
    lam: float = 1.0,
    joint: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Leave-one-out difference of the vote; groups are the messages of one task and agent. Needs
    flat episodes.
    """
    paths = tree.episodes()
    answers = tree.answer[paths]
    full = vote_outcome(answers, tie)
    value = np.zeros(len(tree))
    for k in range(paths.shape[1]):
        value[paths[:, k]] = joint * full + lam * (
            full - vote_outcome(np.delete(answers, k, axis=1), tie)
        )
    return value, sibling_groups(tree)
