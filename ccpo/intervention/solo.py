"""One agent alone: nobody else speaks, and it takes its role without the others. In a vote it is
the only voter.
"""

from __future__ import annotations

from ccpo.intervention import Change, turns_of, unaltered
from ccpo.team import Team

VERSION = 2
LABEL = "agent alone"
CHANGES = "agent"
alter = unaltered


def agents(team: Team) -> tuple[int, ...]:
    """Each whose last message, alone, holds an answer; where there are others to leave out."""
    if team.agents == 1:
        return ()
    return tuple(agent for agent in range(team.agents) if _answers(team, agent))


def change(team: Team, agent: int) -> Change:
    """The turns of all others are absent."""
    return Change(absent=frozenset(range(len(team.turns))) - turns_of(team, [agent]))


def _answers(team: Team, agent: int) -> bool:
    own = sorted(turns_of(team, [agent]))
    return team.role(own[-1], own).answers
