"""Shapley value of a voter: its marginal effect on the vote, averaged over all orders in which the
voters could arrive.

    phi_k = sum over coalitions S without k of |S|! (n - |S| - 1)! / n! * (v(S + k) - v(S)),
        v(S) = outcome of the vote of S, v({}) = 0

The values of an episode sum to the team's outcome (efficiency), equal answers get equal values
(symmetry).
Source: Shapley 1953; ours, no paper of this field publishes it for votes. CCPO v1 keeps only the
    term of the largest coalition.
Departures: none; exact, all 2^n coalitions are counted.
Cost: no message and no evaluator call beyond the episodes; 2^n votes of arithmetic for n voters.
"""

import itertools
import math
from typing import Literal

import numpy as np

from ccpo.credit import flat_vote, sibling_groups
from ccpo.team import Team, vote_outcome
from ccpo.tree import Plan, Tree

VERSION = 1


def plan(team: Team, fanout: tuple[int, ...], **_: object) -> Plan:
    """Needs a vote, since only there the outcome of every coalition is known."""
    flat_vote("shapley", team, fanout)
    return Plan(fanout)


def degenerate(compares: str, **_: object) -> str:
    """Never: what coalitions vote varies inside a group."""
    return ""


def credit(
    tree: Tree, *, tie: Literal["wrong", "uniform", "first"] = "uniform"
) -> tuple[np.ndarray, np.ndarray]:
    """Exact Shapley values; groups are the messages of one task and agent. Needs flat episodes."""
    paths = tree.episodes()
    answers = tree.answer[paths]
    n = paths.shape[1]
    coalitions = [s for size in range(n + 1) for s in itertools.combinations(range(n), size)]
    worth = {s: vote_outcome(answers[:, s], tie) for s in coalitions if s}
    worth[()] = np.zeros(len(answers))
    value = np.zeros(len(tree))
    for k in range(n):
        for s in coalitions:
            if k not in s:
                weight = math.factorial(len(s)) * math.factorial(n - len(s) - 1) / math.factorial(n)
                value[paths[:, k]] += weight * (worth[tuple(sorted((*s, k)))] - worth[s])
    return value, sibling_groups(tree)
