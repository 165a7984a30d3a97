"""The team before training: the policies that it began with, otherwise as it is."""

from __future__ import annotations

from ccpo.intervention import Change, turns_of, unaltered
from ccpo.team import Team

VERSION = 1
LABEL = "before training"
CHANGES = "team"
alter = unaltered


def agents(team: Team) -> tuple[int, ...]:
    """All."""
    return tuple(range(team.agents))


def change(team: Team, agent: int) -> Change:
    """Every turn is spoken by its untrained self."""
    return Change(untrained=turns_of(team, agents(team)))
