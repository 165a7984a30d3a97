"""Who reads an agent's message finds it empty; in a vote its ballot is empty. What it says is paid
for as ever.
"""

from __future__ import annotations

from ccpo.intervention import Change, Material, consulted_agents, turns_of
from ccpo.team import Team

VERSION = 2
LABEL = "message left empty"
CHANGES = "agent"


def agents(team: Team) -> tuple[int, ...]:
    """Each who is read, or counted."""
    return consulted_agents(team)


def change(team: Team, agent: int) -> Change:
    """Its messages are altered."""
    return Change(altered=turns_of(team, [agent]))


def alter(material: Material) -> list[str]:
    """Empty messages."""
    return [""] * len(material.messages)
