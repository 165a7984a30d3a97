"""The last agent alone: nobody speaks before it."""

from __future__ import annotations

from ccpo.intervention import Reading
from ccpo.team import Team

VERSION = 1
LABEL = "last agent alone"
POLICIES = "trained"


def fits(team: Team) -> bool:
    """Where there are others to leave out."""
    return team.agents > 1


def present(team: Team) -> tuple[int, ...]:
    """The last turn."""
    return (len(team.turns) - 1,)


def speaks(team: Team) -> tuple[int, ...]:
    """The last turn."""
    return present(team)


def hears(reading: Reading) -> list[list[str]]:
    """No message: nobody is left to read."""
    return reading.unchanged()
