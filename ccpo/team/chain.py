"""A chain of n agents: each reads the message before its own, the last one answers. Ours: the
Think-Solve dyad (n = 2) made longer.

It asks how credit fares as the path from a message to the reward grows. Departures: none, no paper
publishes it.
"""

from ccpo.team import SOLO, Role, Team, Turn
from ccpo.team.think_solve import SOLVER, THINKER

VERSION = 1

RELAY = Role(
    system="Improve the plan: correct it, add what is missing, stop before the last step, do not "
    "give the answer.",
    user="Problem: {question}\nPlan: {read}",
    demo="plan",
    answers=False,
)


def team(*, agents: int = 3) -> Team:
    """`agents` turns: a Thinker, relays who read the turn before, and a Solver who reads the last
    of them.
    """
    if agents < 2:
        raise ValueError(
            f"team chain: agents={agents}; a chain needs at least 2 (team single has one)"
        )
    middle = tuple(Turn(a, "relay", reads=(a - 1,)) for a in range(1, agents - 1))
    return Team(
        turns=(
            Turn(0, "thinker"),
            *middle,
            Turn(agents - 1, "solver", reads=(agents - 2,), alone="solo"),
        ),
        roles={"thinker": THINKER, "relay": RELAY, "solver": SOLVER, "solo": SOLO},
    )
