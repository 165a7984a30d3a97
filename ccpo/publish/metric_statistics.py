"""Records of stats.json: what several answers to a task are worth, and teams against a single agent
at as many tokens. Shares are fractions; intervals are at 95 %.
"""

from __future__ import annotations

from ccpo.document import Record

Bounds = tuple[float, float]


class Levels(Record):
    """A mean over seeds and tasks with three intervals (None where one seed, or one task, gives
    none), each of which says what would be drawn anew.
    """

    mean: float
    seeds: Bounds | None  # other training seeds (or base models), the same tasks
    items: Bounds | None  # these policies, other tasks
    both: Bounds | None  # other training seeds and other tasks


class Metrics(Record):
    """Of a team on a benchmark under a decoding, from `samples` answers to each task."""

    samples: int
    tasks: int
    replicates: int  # training seeds, or base models
    average: Levels  # avg@k: of any one answer
    pass_at: dict[int, Levels]  # by k: one answer of k at least is right
    majority_at: dict[int, Levels]  # by k: the most frequent answer of k is right, ties by lot


ByPlayed = dict[str, dict[str, dict[str, Metrics]]]  # by benchmark, decoding, intervention


class Gap(Record):
    """A paired difference over replicates; no claim, and in no family of tests."""

    mean: float
    ci_low: float | None
    ci_high: float | None
    n: int
    by_seed: dict[int, float]


class AgainstSingle(Record):
    """A team under the decoding that claims are made of, against the single agent of its model that
    answers several times under `decoding` and takes the most frequent answer.

    k: the largest number of answers whose tokens (generated for a task, mean over seeds and tasks)
        are at most the team's, within the tolerance of a matched comparison; but 1 at least, and no
        more than were drawn. wanted: that number itself, 0 where one answer alone takes more than
        the team.
    """

    team: str
    single: str
    benchmark: str
    team_decoding: str
    decoding: str
    words: str  # of `decoding`
    k: int
    wanted: int
    drawn: int
    team_tokens: float
    single_tokens: float  # of k answers
    team_accuracy: float
    single_accuracy: float  # majority@k
    difference: Gap  # team minus single agent

    @property
    def matched(self) -> bool:
        """Whether the single agent has as many answers as the team's tokens pay."""
        return self.k == self.wanted


class EqualTokens(Record):
    """Every team against a single agent at equal tokens of evaluation, and what can be said."""

    rows: tuple[AgainstSingle, ...]
    sentences: tuple[str, ...]
