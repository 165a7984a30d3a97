"""The team as it is."""

from __future__ import annotations

from ccpo.intervention import Change, unaltered
from ccpo.team import Team

VERSION = 1
LABEL = "team as it is"
CHANGES = "team"
alter = unaltered


def agents(team: Team) -> tuple[int, ...]:
    """All."""
    return tuple(range(team.agents))


def change(team: Team, agent: int) -> Change:
    """None."""
    return Change()
