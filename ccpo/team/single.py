"""One agent: the equal-token control that belongs in every comparison."""

from ccpo.team import SOLO, Team, Turn

VERSION = 1


def team() -> Team:
    """A single turn in the solo role."""
    return Team(turns=(Turn(0, "solo"),), roles={"solo": SOLO})
