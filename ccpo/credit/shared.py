"""Shared reward: every message of an episode gets the team's outcome.

    c_i = 2 R_i - 1                                                       for every role

Source: ReMA's joint reward (arXiv 2503.09501); the lambda = 0 control of CCPO and SEPO (arXiv
2603.21563v2 and later), which map outcomes to signs. In a tree an inner message gets the mean of
its leaves.
Departures: none. Cost: no message and no evaluator call beyond the episodes.
"""

import numpy as np

from ccpo.credit import sibling_groups
from ccpo.team import Team
from ccpo.tree import Plan, Tree

VERSION = 1


def plan(team: Team, fanout: tuple[int, ...]) -> Plan:
    """Every team has a joint outcome; nothing beyond the episodes is needed."""
    return Plan(fanout)


def degenerate(compares: str, **_: object) -> str:
    """Never: it is what others are compared with."""
    return ""


def credit(tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """The outcome's sign; groups are the messages of one task and turn."""
    return np.where(tree.factual, 2 * tree.reward - 1, 0.0), sibling_groups(tree)
