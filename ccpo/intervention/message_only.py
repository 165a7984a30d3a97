"""The thought-only test: who comes after an agent sees no question, and of all messages only this
agent's and those that were written after reading it. Where the team still answers, the message
stands in for the question: it gives the answer away, in whatever words, or repeats all that was
asked.
"""

from __future__ import annotations

from ccpo.intervention import Change, downstream, read_agents, turns_of
from ccpo.intervention.blank import alter as alter
from ccpo.team import Team

VERSION = 1
LABEL = "message without the question"
CHANGES = "agent"


def agents(team: Team) -> tuple[int, ...]:
    """Each who is read, where the last message answers and is not its own."""
    if team.answer == "vote":
        return ()
    last = len(team.turns) - 1
    return tuple(agent for agent in read_agents(team) if last in downstream(team, agent))


def change(team: Team, agent: int) -> Change:
    """Who comes after it is not asked, and finds the messages of all others empty."""
    unasked = downstream(team, agent)
    own = turns_of(team, [agent])
    others = frozenset(range(len(team.turns))) - unasked - own
    return Change(altered=others, unasked=unasked, held=own)
