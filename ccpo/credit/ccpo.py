"""CCPO dyad: the joint outcome, and for the Thinker a bonus against what the Solver does alone.

With R_i = +-1 the joint outcome and S_i = +-1 the outcome of the Solver alone (solo samples from
the same weights):

    b_i = mean_g(S)  (baseline "group")   or   S_i  (baseline "paired")
    B_i = 1[R_i > 0, b_i < 0] - 1[R_i < 0, b_i > 0]  (bonus "event")   or   (R_i - b_i) / 2  (bonus
        "difference")
    c_i = R_i + lam * B_i  for the Thinker (agent 0),      c_i = R_i  for the Solver

What it amounts to: with the group baseline, B is affine in R inside a group, so that after group
centring the Thinker's advantage is exactly (1 + lam/2) times the shared one (1 times where b = 0,
event form): see tests/test_credit.py.
Source: arXiv 2603.21563v2 and later; official
    `CCPO/examples/gspo_trainer/two_model/two_model_trainer.py`.
Departures: none; outcomes of inner messages of a tree are means of their leaves, b = 0 is decided
    exactly (solo counts are whole numbers).
Cost: `episodes` further messages of the Solver and evaluator calls for each task.
"""

from typing import Literal

import numpy as np

from ccpo.credit import paired, sibling_groups
from ccpo.team import Team
from ccpo.tree import Plan, Removal, Tree

VERSION = 1


def plan(team: Team, fanout: tuple[int, ...], **_: object) -> Plan:
    """As many solo samples of the Solver as joint episodes; needs two agents of whom the second
    answers and still does alone.
    """
    if team.answer != "last" or team.agents != 2 or not team.without(0):
        raise ValueError(
            "credit ccpo removes the first of two agents and asks the second alone; use it with "
            "team think_solve"
        )
    return Plan(fanout, removals=(Removal(agent=0, n=Plan(fanout).episodes),))


def degenerate(compares: str, *, lam: float, baseline: str, bonus: str) -> str:
    """With the group's solo baseline, or the difference bonus of it, under any baseline of the
    group.
    """
    if compares != "group" or baseline == "paired":
        return ""
    return (
        "the solo baseline is one number for a task, so the bonus is affine in the outcome: the "
        "Thinker's advantage is "
        f"{1 + lam / 2:g} times the shared one (1 times where the solo samples tie, event form), "
        "the same under a z-score"
    )


def credit(
    tree: Tree,
    *,
    lam: float = 0.2,
    baseline: Literal["group", "paired"] = "group",
    bonus: Literal["event", "difference"] = "event",
) -> tuple[np.ndarray, np.ndarray]:
    """Joint outcome plus the Thinker's bonus; groups are the messages of one task and turn."""
    if lam < 0:
        raise ValueError(f"credit ccpo: lam={lam} must be >= 0")
    outcome = 2 * tree.reward - 1
    value = np.where(tree.factual, outcome, 0.0)
    thinker = np.flatnonzero(tree.factual & (tree.agent == 0))
    solo = np.flatnonzero((tree.removed == 0) & tree.leaf)
    n_tasks = int(tree.task.max(initial=-1)) + 1
    count = np.bincount(tree.task[solo], minlength=n_tasks)
    if (count[tree.task[thinker]] == 0).any():
        raise ValueError("credit ccpo: a task has no solo sample")
    if baseline == "group":
        mean = np.bincount(tree.task[solo], outcome[solo], n_tasks) / np.maximum(count, 1)
        b = mean[tree.task[thinker]]
    else:
        b = paired("ccpo", tree.task[thinker], tree.task[solo], outcome[solo])
    r = outcome[thinker]
    event = ((r > 0) & (b < 0)).astype(float) - ((r < 0) & (b > 0))
    value[thinker] = r + lam * (event if bonus == "event" else (r - b) / 2)
    return value, sibling_groups(tree)
