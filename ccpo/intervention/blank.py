"""Who reads gets an empty message in place of each; what the others say stays as it was."""

from __future__ import annotations

from ccpo.intervention import Reading, everybody, readers
from ccpo.team import Team

VERSION = 1
LABEL = "message left empty"
POLICIES = "trained"


def fits(team: Team) -> bool:
    """Where somebody reads."""
    return bool(readers(team))


def present(team: Team) -> tuple[int, ...]:
    """All turns: the readers keep their roles."""
    return everybody(team)


def speaks(team: Team) -> tuple[int, ...]:
    """The turns that read."""
    return readers(team)


def hears(reading: Reading) -> list[list[str]]:
    """Empty messages."""
    return [[""] * len(reading.reads) for _ in range(reading.episodes)]
