"""MAGRPO: every message of an episode gets the episode's outcome, as one joint action of the team.

    c_i = R_i in [0, 1],      group: all episodes of a task, for each role

With advantage `group_z` (epsilon inside the root) this is A_i = (R_i - mean) / sqrt(popvar + 1e-8),
with `leave_one_out` its RLOO form. Under either it equals `shared` up to the factor 2 between
outcomes and signs, and exactly under the z-score.
Source: MAGRPO as C3's baseline, arXiv 2603.06859v2; official `c3/algorithms/magrpo.py`, unit
    `joint_action`.
What the official code does differently: its `token_normalize` acts in the unit `per_role` only, so
that the published "token_normalize = True" has no effect; its rloo with normalisation divides by
the spread of the rewards, not of what it centred. None is offered here.
Departures: in a tree an inner message gets the mean of its leaves.
Cost: no message and no evaluator call beyond the episodes.
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
    """Under any baseline of the group: its credit is half the shared one plus 1/2."""
    return (
        "the outcome in [0, 1] is half the shared reward plus 1/2, so that inside a group its "
        "advantage is the shared one "
        "(half of it without a z-score)"
        if compares == "group"
        else ""
    )


def credit(tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """The outcome; groups are the messages of one task and turn."""
    return np.where(tree.factual, tree.reward, 0.0), sibling_groups(tree)
