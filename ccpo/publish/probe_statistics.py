"""What is measured of credit on a probe: of one run at one share of its training (a file beside
the probe's table), and of an experiment (in stats.json).

`None`: the draws cannot tell, and the reason is the target's: it has no spread that could be told
from noise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ccpo import document
from ccpo.document import Document, Record


class Bin(Record):
    """Messages of a fifth of the credits at most: how many, their mean credit and mean target."""

    n: int
    credit: float
    target: float


class MethodProbe(Record):
    """What a credit method gives the candidates of a turn, against the target from separate
    replays and candidates; see evaluate/probing/fidelity.py.
    """

    method: str
    calls: int  # evaluator calls of the tree that it was given
    correlation: float  # of credit and target
    fidelity: float | None  # the same, over what the target's own reliability allows
    floor: float | None  # 95 % of |fidelity| of credit shuffled inside contexts, signs by lot
    p: float  # one-sided, of the same
    # inside a context, the scale of the credit taken out, over the exact advantage's; leaving
    # itself out among n siblings makes it (n / (n - 1))^2 without adding noise
    variance: float | None
    slope: float | None  # of the target on the credit
    bins: tuple[Bin, ...]


class PublishedProbe(Record):
    """The same messages under a published definition, which it names."""

    definition: str
    method: str
    value: float


class Influence(Record):
    """How far the choice of a message moves the class of the team's answer, in nats; see
    evaluate/probing/influence.py.
    """

    value: float
    error: float  # standard error over tasks
    plug_in: float
    null: float  # mean of the plug-in once candidates are shuffled
    floor: float  # what 95 % of shufflings stay below, beyond their mean
    p: float
    entropy: float  # of the answer in a context: the most that there is to move


class LeftOut(Record):
    """A method that cannot be measured on a probe, and why."""

    method: str
    reason: str


class TurnProbe(Record):
    """What is measured of the messages of one turn."""

    turn: int
    agent: int
    contexts: int
    candidates: int
    replays: int
    reward: float  # mean outcome: the team's accuracy as it plays in training
    mixed: float  # share of contexts whose outcomes are not all the same
    late: int  # verdicts that were not reached
    reliability: float | None  # of the target: its split halves, to full length
    signal: float  # variance of the exact advantage, from the target's halves
    influence: Influence | None  # None where nothing follows the message
    methods: tuple[MethodProbe, ...]
    published: tuple[PublishedProbe, ...]
    left_out: tuple[LeftOut, ...]


class RunProbe(Document):
    """{share}-{probe}.diagnostics.json of a run."""

    kind: Literal["probe diagnostics"] = "probe diagnostics"
    version: Literal[1] = 1
    run: str
    turns: tuple[TurnProbe, ...]


class ProbeRow(Record):
    """A mean over replicates and its interval, and the value of every seed, of one quantity of the
    messages of a turn at a share of the training. `method`: "" where it is none's.
    """

    condition: str
    at: float
    turn: int
    agent: int
    method: str
    quantity: str
    mean: float
    ci_low: float | None
    ci_high: float | None
    n: int
    by_seed: dict[int, float]  # seeds whose draws can tell


class Calibration(Record):
    """Fifths of the credit of all seeds' messages: how many, their mean credit and target."""

    condition: str
    at: float
    turn: int
    method: str
    bins: tuple[Bin, ...]


class ProbeLeftOut(LeftOut):
    """A method that cannot be measured in a condition."""

    condition: str


class Probes(Record):
    """What an experiment's probes say."""

    id: str
    at: tuple[float, ...]
    rows: tuple[ProbeRow, ...]
    calibration: tuple[Calibration, ...]
    left_out: tuple[ProbeLeftOut, ...]
    missing: tuple[str, ...]  # probes that are not there, in words
    sentences: tuple[str, ...]

    def of(self, quantity: str) -> list[ProbeRow]:
        """The rows of a quantity."""
        return [row for row in self.rows if row.quantity == quantity]


def read_run_probe(path: str | Path) -> RunProbe:
    """A run's diagnostics. ValueError as `document.read`."""
    return document.read(path, RunProbe)
