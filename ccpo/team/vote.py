"""Voting team (CCPO v1, arXiv 2603.21563v1): agents answer independently, a plurality vote gives
the team's answer.

Agents without an answer abstain. The paper's tie rule could not be recovered, and with three agents
it decides the method, so it is a parameter.
"""

from typing import Literal

from ccpo.team import SOLO, Team, Turn

VERSION = 1


def team(*, agents: int = 3, tie: Literal["wrong", "uniform", "first"] = "wrong") -> Team:
    """`agents` independent turns, each in the solo role."""
    if agents < 2:
        raise ValueError(f"team vote: agents={agents}; a vote needs at least 2")
    return Team(
        turns=tuple(Turn(a, "solo") for a in range(agents)),
        roles={"solo": SOLO},
        answer="vote",
        tie=tie,
    )
