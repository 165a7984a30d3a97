"""SEPO: both agents rate each episode once the verdict is known; the ratings move the shared reward
a little, from one role to the other.

With (T1, T2) the Thinker's and (S1, S2) the Solver's split of an episode, each one of (0.9, 0.1),
..., (0.1, 0.9):

    s1 = eta T1 + (1 - eta) S1,   s2 = eta S2 + (1 - eta) T2,   w1 = s1 / (s1 + s2),   w2 = 1 - w1
    beta_k = w_k - mean(w_k)  over the task ("group"), over its right and its wrong episodes apart
                              ("apart"), or w_k - 1/2 ("half")
    R = +1:  c_k = 1 + lam beta_k         R = -1:  c_k = -1 - lam_b beta_k

    invalid "half": a rating that cannot be read counts as the vote (1/2, 1/2)
    invalid "exclude": it does not count; w is that of the other rater, and without any the episode
        has beta = 0 and no part in the mean

What it amounts to: beta_2 = -beta_1, so the shaping is a zero-sum split and |shaping| <= 0.8 lam:
it never turns right and wrong around. "group" centres shares of credit and shares of blame
together; yet inside a task the three centrings differ by a function of the outcome alone (if every
episode counts), so that what ratings teach beyond the shared reward is the same, and only its
weight against it is not. In a group of equal outcomes all that is learnt is the agents' opinion.
Source: SEPO, arXiv 2603.21563v3 to v5; official `SEPO/examples/gspo_trainer/two_model/`. Published:
eta 0.3, lam = lam_b = 0.2, "group", "half". The mended form is ours: "apart", "exclude".
What the official code does differently: it reads ratings out of free text (ccpo/play/rating.py says
how, and what we ask instead) and shortens long texts in the rating prompt; here a prompt that
leaves no room is an invalid rating.
Departures: the prompt shows no example pair and no list of pairs.
Cost: two rating messages an episode, no evaluator call; flat [16, 1] takes 32 messages and 32
    ratings a task.
"""

from typing import Literal

import numpy as np

from ccpo.credit import sibling_groups
from ccpo.team import Team
from ccpo.tree import Plan, Tree

VERSION = 1


def plan(team: Team, fanout: tuple[int, ...], *, centre: str = "group", **_: object) -> Plan:
    """Ratings of flat episodes of two agents, one message each."""
    if team.answer != "last" or [turn.agent for turn in team.turns] != [0, 1]:
        raise ValueError(
            "credit sepo asks two agents who wrote one message each for their shares; use it "
            "with team think_solve"
        )
    if fanout[0] == 1 and centre != "half":
        raise ValueError(
            f"credit sepo centres shares over a task's episodes (centre {centre}), and fan-out "
            f"{list(fanout)} makes one: nothing would be "
            'left. Use more, or centre "half"'
        )
    return Plan(fanout, ratings=True)


def degenerate(compares: str, *, lam: float, lam_b: float, **_: object) -> str:
    """Without weight on the ratings."""
    return (
        "lam and lam_b are 0, so ratings are asked for and not used: it is the shared reward"
        if lam == lam_b == 0
        else ""
    )


def credit(
    tree: Tree,
    *,
    eta: float = 0.3,
    lam: float = 0.2,
    lam_b: float = 0.2,
    centre: Literal["group", "apart", "half"] = "group",
    invalid: Literal["half", "exclude"] = "half",
) -> tuple[np.ndarray, np.ndarray]:
    """Outcome plus the shaping; groups are the messages of one task and turn. Needs flat episodes
    of two messages.
    """
    if not 0 <= eta <= 1 or lam < 0 or lam_b < 0:
        raise ValueError(
            f"credit sepo: eta={eta} must be in [0, 1], lam={lam} and lam_b={lam_b} at least 0"
        )
    paths = tree.episodes()
    right = tree.reward[paths[:, 1]] > 0.5
    task = tree.task[paths[:, 0]]
    share, counts = _share(tree.rating[paths[:, 0]], tree.rating[paths[:, 1]], eta, invalid)
    if centre == "half":
        middle = np.full(len(share), 0.5)
    else:
        family = task if centre == "group" else 2 * task + right
        total = np.bincount(family, counts * share)
        middle = (total / np.maximum(np.bincount(family, counts), 1))[family]
    shaping = np.where(right, lam, -lam_b) * np.where(counts, share - middle, 0.0)
    value = np.zeros(len(tree))
    for k, sign in ((0, 1), (1, -1)):
        value[paths[:, k]] = np.where(right, 1.0, -1.0) + sign * shaping
    return value, sibling_groups(tree)


def _share(
    thinker: np.ndarray, solver: np.ndarray, eta: float, invalid: str
) -> tuple[np.ndarray, np.ndarray]:
    """Weight w1 [E] of the first agent by both raters' splits [E, 2], and whether the episode
    counts [E].
    """
    valid = ~np.isnan(np.stack([thinker, solver])).any(2)  # [rater, E]
    t, s = (
        np.where(ok[:, None], split, 0.5)
        for ok, split in zip(valid, (thinker, solver), strict=True)
    )
    one = eta * t[:, 0] + (1 - eta) * s[:, 0]
    two = eta * s[:, 1] + (1 - eta) * t[:, 1]
    both = one / np.maximum(one + two, 1e-6)
    if invalid == "half":
        return both, np.ones(len(both), bool)
    single = np.where(valid[0], t[:, 0], s[:, 0])
    return np.where(valid.all(0), both, single), valid.any(0)
