"""No credit: the untrained control, evaluated like every other condition.

    c_i = 0                                                               for every role

Source: the untrained team ("CoT dyad", "SFT") that CCPO v1 (arXiv 2603.21563v1) and C3 (arXiv
    2603.06859) report beside the trained ones.
Departures: none; a run with it must have `train.steps: 0`.
Cost: nothing.
"""

import numpy as np

from ccpo.credit import sibling_groups
from ccpo.team import Team
from ccpo.tree import Plan, Tree

VERSION = 1


def plan(team: Team, fanout: tuple[int, ...]) -> Plan:
    """Every team can be left as it is."""
    return Plan(fanout)


def degenerate(compares: str, **_: object) -> str:
    """Always: nothing is taught."""
    return "every credit is 0, so nothing is learnt: the untrained control"


def credit(tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """Zeros; groups are the messages of one task and turn."""
    return np.zeros(len(tree)), sibling_groups(tree)
