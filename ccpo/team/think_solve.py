"""Think-Solve dyad (CCPO v2 and later, arXiv 2603.21563): a Thinker plans without answering, a
Solver answers given the thought.

Departures from the official code: the leak guard takes out every box (ccpo.team.guard), and the
question carries no suffix asking the Thinker for a box. Without the Thinker the Solver takes the
solo role, as in the official solo pass.
"""

from ccpo.team import SOLO, Role, Team, Turn

VERSION = 1

THINKER = Role(
    system="Plan the solution of the problem. Give the key steps, stop before the last one, do "
    "not give the answer.",
    user="Problem: {question}",
    demo="plan",
    answers=False,
)
SOLVER = Role(
    system="Solve the problem, guided by the thought. End with the final answer {form}.",
    user="Problem: {question}\nThought: {read}",
    demo="conclusion",
    answers=True,
)


def team() -> Team:
    """Turn 0: Thinker (agent 0). Turn 1: Solver (agent 1), who reads it."""
    return Team(
        turns=(Turn(0, "thinker"), Turn(1, "solver", reads=(0,), alone="solo")),
        roles={"thinker": THINKER, "solver": SOLVER, "solo": SOLO},
    )
