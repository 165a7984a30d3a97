"""Who reads an agent's message gets the first share of its tokens: whether what counts stands at
its end, as an answer that is given away does.
"""

from __future__ import annotations

from ccpo.intervention import Change, Material, read_agents, turns_of
from ccpo.team import Team

VERSION = 1
LABEL = "message cut short"
CHANGES = "agent"


def agents(team: Team) -> tuple[int, ...]:
    """Each who is read. A ballot that is cut short is an empty one, see `blank`."""
    return read_agents(team)


def change(team: Team, agent: int) -> Change:
    """Its messages are altered."""
    return Change(altered=turns_of(team, [agent]))


def alter(material: Material, *, share: float = 0.5) -> list[str]:
    """The first `share` of each message's tokens, rounded down.

    Raises:
        ValueError: the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(
            f"intervention truncate: share={share:g} is not between 0 and 1. Remedy: share: 0.5; "
            "a message of which nothing is left is `blank`"
        )
    return [material.cut(message, share) for message in material.messages]
