"""One agent is its untrained self, the others are as trained: what training taught this agent, in
this team.
"""

from __future__ import annotations

from ccpo.intervention import Change, turns_of, unaltered
from ccpo.team import Team

VERSION = 1
LABEL = "agent before training"
CHANGES = "agent"
alter = unaltered


def agents(team: Team) -> tuple[int, ...]:
    """Each, where there are others who stay trained."""
    return tuple(range(team.agents)) if team.agents > 1 else ()


def change(team: Team, agent: int) -> Change:
    """Its turns are spoken by the policy that training began with."""
    return Change(untrained=turns_of(team, [agent]))
