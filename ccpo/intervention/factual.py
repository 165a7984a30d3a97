"""The team as it is."""

from __future__ import annotations

from ccpo.intervention import Reading, everybody
from ccpo.team import Team

VERSION = 1
LABEL = "team as it is"
POLICIES = "trained"


def fits(team: Team) -> bool:
    """Always."""
    return True


def present(team: Team) -> tuple[int, ...]:
    """All turns."""
    return everybody(team)


def speaks(team: Team) -> tuple[int, ...]:
    """All turns."""
    return everybody(team)


def hears(reading: Reading) -> list[list[str]]:
    """The messages as they are."""
    return reading.unchanged()
