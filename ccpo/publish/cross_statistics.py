"""Statistics of cross-play: teams whose agents come from several conditions."""

from __future__ import annotations

from ccpo.document import Record
from ccpo.publish.interval import Row


class CrossCell(Row):
    """Accuracy of a mixed team; `seats`: the condition of each agent."""

    seats: tuple[str, ...]


class CrossGain(Record):
    """What the team of `b` has over the team of `a`, and where it lives. `agents`: by agent, what
    it adds alone in the company of `a`; `fit`: what is there only when all of them come together.
    The parts add up to the `total`.
    """

    a: str
    b: str
    total: Row
    agents: tuple[Row, ...]
    fit: Row
    sentence: str


class CrossMarginal(Row):
    """How much better teams are with this agent from this condition than with it from any: means
    over the teams it is put into.
    """

    label: str
    agent: int


class CrossPlay(Record):
    """Cross-play of one team (topology) on the benchmark of the primary metric."""

    team: str
    roles: tuple[str, ...]  # by agent
    labels: tuple[str, ...]
    benchmark: str
    decoding: str  # in words
    tasks: int
    seeds: tuple[int, ...]
    cells: tuple[CrossCell, ...]
    gains: tuple[CrossGain, ...]  # of every ordered pair
    marginals: tuple[CrossMarginal, ...]
    left_out: tuple[str, ...]  # seeds that are missing, in words
