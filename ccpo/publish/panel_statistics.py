"""Who contributes to a team, by agent: records of the free-riding panel (ccpo/evaluate/panel.py)
and its alarms (ccpo/evaluate/alarms.py).
"""

from __future__ import annotations

from typing import Literal

from ccpo.document import Record
from ccpo.publish.interval import Interval, Row

AlarmName = Literal[
    "rides free",
    "sabotages",
    "leaks the answer",
    "talks past its partner",
    "does all the work",
]


class Contribution(Row):
    """What an agent adds: accuracy of the factual team minus that under an intervention on it,
    paired by task and sample.
    """

    agent: int
    intervention: str  # its name in tables


class Influence(Row):
    """Share of answers that are others when the agent's message is that of another task.

    p: two-sided, of the flips of sign by task of how much more often the team is right with its own
    message (null: it does not matter whose message it is); None below 6 tasks.
    """

    agent: int
    p: float | None
    p_error: float | None


class Leak(Record):
    """Whether an agent's message holds the answer.

    holds: share of messages with the truth in them; by_chance: with the truth of another task.
    alone: accuracy of the team whose later agents get the message and no question (None: not
    played); alone_by_chance: right for another task.
    """

    agent: int
    holds: Row
    by_chance: Row
    alone: Row | None
    alone_by_chance: Row | None


class TokenShare(Interval):
    """Share of a team's generated tokens that an agent wrote, in a part of training (the first or
    last fifth of the updates).
    """

    agent: int
    part: str


class Alarm(Record):
    """A verdict on an agent, with its evidence in the sentence; p as tested, before it is compared
    with the level of one test.
    """

    name: AlarmName
    agent: int
    p: float
    sentence: str


class Panel(Record):
    """Of one condition, under the primary decoding on the primary benchmark."""

    roles: dict[int, str]
    contributions: tuple[Contribution, ...]
    influence: tuple[Influence, ...]
    leaks: tuple[Leak, ...]
    tokens: tuple[TokenShare, ...]
    alarms: tuple[Alarm, ...]
    tests: int  # made for alarms; they share the level
    level: float
    untested: tuple[str, ...]  # alarms that could not be tested, and why
