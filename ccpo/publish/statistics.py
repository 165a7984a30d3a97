"""stats.json: the statistics of an experiment as two documents (training, oracle). Written by
`evaluate` and `oracle`; every figure, table, sentence and tracked number is made from them.

Shares and differences are fractions, not points. Intervals are at 95 %. A mapping by seed has whole
numbers as keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ccpo import document
from ccpo.document import Document, Record
from ccpo.publish.cross_statistics import CrossPlay
from ccpo.publish.interval import Interval as Interval
from ccpo.publish.interval import Row as Row
from ccpo.publish.metric_statistics import ByPlayed, EqualTokens
from ccpo.publish.panel_statistics import Panel
from ccpo.publish.probe_statistics import Probes
from ccpo.publish.referee_statistics import Budget, SpecificationCurve

FACTUAL = "factual"
UNTRAINED = "untrained"


# -- training
# ------------------------------------------------------------------------------------------------


class OverTasks(Record):
    """The interval over tasks of one run with one answer a task."""

    n: int
    low: float
    high: float


class Accuracy(Row):
    """Of one benchmark, decoding and intervention."""

    tasks: OverTasks | None


class GainRow(Row):
    """Trained minus untrained under one decoding; `apart`: how much more than what no choice of
    temperature gives.
    """

    apart: Row


class Gain(Record):
    """What training added to the untrained team; see evaluate/condition.py."""

    by_decoding: dict[str, GainRow]
    best: str
    beyond: Row
    seeds_counted: int
    collapsed: tuple[int, ...]  # seeds whose trained team is right less often than its untrained
    sentence: str


class Parts(Record):
    """Standard deviations by source; None where the design cannot tell."""

    base: float | None
    seed: float | None
    draw: float | None
    task: float | None
    total: float | None


class Decoding(Record):
    """How answers are drawn, and its name in a sentence."""

    temperature: float
    words: str


class LedgerPart(Record):
    """Counts of training of one agent for one purpose: mean over seeds."""

    agent: int
    purpose: str
    prompt_tokens: float
    generated_tokens: float
    trained_tokens: float
    evaluator_calls: float


class LedgerTotal(Record):
    """Counts of training: mean over seeds."""

    prompt_tokens: float
    generated_tokens: float
    trained_tokens: float
    evaluator_calls: float
    parts: tuple[LedgerPart, ...]


class CurvePoint(Interval):
    """Team reward in a window of updates that ends with `step`."""

    step: int
    tokens: float


class AgentRow(Interval):
    """A quantity (reward, credit, leakage) of an agent's messages in the first or last fifth of
    training.
    """

    agent: int
    part: str
    quantity: str


class Information(Record):
    """Role information of an agent in an update, over the seeds."""

    agent: int
    step: int
    mean: float
    max: float


class Graded(Record):
    """Accuracy of the same answers under our verifier and under the papers' graders."""

    accuracy: float
    c3: float
    ccpo: float


class Clean(Row):
    """Accuracy on the items of a benchmark about which nothing is known to be wrong, and how many
    have a known defect.
    """

    defects: int


class Late(Record):
    """Verdicts that could not be reached in time, over all seeds."""

    training: int
    evaluation: int


class Condition(Record):
    """Statistics of one condition."""

    team: str
    credit: str
    model: str
    policy: str
    benchmark: str  # of the primary metric
    tasks: int  # of that benchmark
    decodings: dict[str, Decoding]
    primary: str  # decoding
    seeds: tuple[int, ...]
    bases: dict[int, str]
    accuracy: dict[str, dict[str, dict[str, Accuracy]]]  # by benchmark, decoding, intervention
    nll: dict[str, dict[str, Row]]  # nats per token by decoding and team
    gain: Gain | None
    parts: dict[str, Parts]  # by decoding
    ledger: LedgerTotal
    updates: float
    curve: tuple[CurvePoint, ...]
    agents: tuple[AgentRow, ...]
    role_information: tuple[Information, ...]
    leakage: float  # share of factual episodes whose thoughts hold the truth
    leakage_by_chance: float  # that of another task
    clean: dict[str, Clean]  # by benchmark
    late: Late
    graders: dict[str, Graded]  # by benchmark
    metrics: ByPlayed = Field(default_factory=dict)  # avg@k, pass@k, majority@k
    panel: Panel | None = None  # of a team of several agents

    def under(self, decoding: str) -> dict[str, Accuracy]:
        """Accuracies by intervention on the primary benchmark under a decoding."""
        return self.accuracy[self.benchmark][decoding]

    @property
    def main(self) -> dict[str, Accuracy]:
        """Accuracies by intervention on the primary benchmark under the primary decoding."""
        return self.under(self.primary)


class Difference(Interval):
    """A paired difference of two conditions over the seeds that both have."""

    seeds: tuple[int, ...]
    unit: str  # of replication: "seed" or "base model"
    differences: tuple[float, ...]  # by seed
    sd: float  # between replicates
    item: float  # standard deviation of a replicate that its items account for
    p: float | None
    p_equivalent: float | None  # within the declared effect: two one-sided tests
    p_sign_flip: float | None
    p_sign_flip_error: float | None  # its standard error; 0 where all flips are counted

    @property
    def by_seed(self) -> dict[int, float]:
        """The difference of every seed."""
        return dict(zip(self.seeds, self.differences, strict=True))


class DecodedDifference(Difference):
    """Under one decoding; `apart`: how much more than under the primary one."""

    parts: Parts | None
    apart: Interval


Verdict = Literal["above", "below", "equivalent", "not decidable"]


class Comparison(Record):
    """A declared comparison, adjusted for its family."""

    a: str
    b: str
    decoding: str  # the primary one, of which the claim is made
    decodings: dict[str, DecodedDifference]
    p_holm: float | None
    p_equivalent_holm: float | None
    verdict: Verdict
    detectable: float | None  # smallest true difference found with 80 % power
    needed: int | None  # replicates that find the declared effect with 80 % power
    unpaired: tuple[str, ...]  # seeds that only one side has, in words
    sentence: str
    elsewhere: str
    matched: bool
    tokens: str

    @property
    def main(self) -> DecodedDifference:
        """The difference under the primary decoding."""
        return self.decodings[self.decoding]


class Repeat(Record):
    """A condition against its own repeat with other seeds: what chance alone makes of a
    comparison. It is no claim, and in no family.
    """

    a: str  # the repeat
    b: str  # what it repeats
    decoding: str  # the primary one
    decodings: dict[str, DecodedDifference]  # by the seeds of what is repeated
    sentence: str

    @property
    def main(self) -> DecodedDifference:
        """The difference under the primary decoding."""
        return self.decodings[self.decoding]


class OtherProtocol(Record):
    """Accuracies under a protocol that no claim is made under."""

    name: str
    id: str
    decodings: dict[str, Decoding]
    # by condition, benchmark, decoding, intervention
    conditions: dict[str, dict[str, dict[str, dict[str, Accuracy]]]]
    metrics: dict[str, ByPlayed] = Field(default_factory=dict)  # by condition


class TrainingStatistics(Document):
    """stats.json of an experiment that trains."""

    kind: Literal["training statistics"] = "training statistics"
    version: Literal[1] = 1
    experiment: str
    question: str
    note: str
    primary_metric: str
    token_tolerance: float
    effect: float  # smallest difference of the primary metric that matters, declared before
    scope: str
    left_out: tuple[str, ...]  # runs and comparisons that are missing, in words
    conditions: dict[str, Condition]
    comparisons: tuple[Comparison, ...]
    repeats: tuple[Repeat, ...]
    others: tuple[OtherProtocol, ...] = ()
    equal_tokens: EqualTokens | None = None
    probes: Probes | None = None
    gain_counted: float
    cross: tuple[CrossPlay, ...] = ()  # where the experiment asks for it
    budgets: tuple[Budget, ...] = ()
    curves: tuple[SpecificationCurve, ...] = ()  # one for each declared comparison


# -- oracle
# ------------------------------------------------------------------------------------------------


class Cell(Record):
    """A credit method under an advantage in the worlds of a shape, of a family or (`all`) of all:
    means over worlds, and ratios to the reference in the same world (None: not measured, or 0).
    """

    family: str
    shape: str
    method: str
    advantage: str
    worlds: int
    bias: Interval
    bias_raw: Interval
    variance: Interval
    mse_tokens: Interval
    mse_calls: Interval
    spearman: Interval
    cosine: Interval
    batch_cosine: Interval
    team_cosine: Interval
    outcome_correlation: Interval
    noise_tokens: Interval
    noise_calls: Interval
    role_information: Interval
    tokens: Interval
    evaluator_calls: Interval
    variance_ratio: Interval | None
    mse_tokens_ratio: Interval | None
    mse_calls_ratio: Interval | None
    noise_tokens_ratio: Interval | None
    noise_calls_ratio: Interval | None


class FreeRiding(Interval):
    """What is paid to agents who change nothing, over what is paid to the last agent."""

    shape: str
    method: str
    advantage: str


class PublishedClaim(Record):
    """What a paper claims, whether it holds in these worlds, and the numbers that say so."""

    claim: str
    verdict: str
    numbers: str


class Sampled(Record):
    """How far means over drawn trees were from their summed expectations, in standard errors."""

    trees: int
    comparisons: int
    groups: int
    worst: float
    beyond: int
    by_chance: float
    biased: int
    biased_worst: float


class Skipped(Record):
    """What was not measured, since it means nothing."""

    method: str
    shape: str
    reason: str


class OracleStatistics(Document):
    """stats.json of an oracle experiment."""

    kind: Literal["oracle statistics"] = "oracle statistics"
    version: Literal[1] = 1
    experiment: str
    question: str
    note: str
    shapes: tuple[str, ...]
    families: tuple[str, ...]
    instances: int
    tokens: int
    reference: tuple[str, str]  # method, advantage
    summary: str
    sampled: Sampled
    cells: tuple[Cell, ...]
    free_riding: tuple[FreeRiding, ...]
    claims: tuple[PublishedClaim, ...]
    skipped: tuple[Skipped, ...]


Statistics = TrainingStatistics | OracleStatistics


def read_training(path: str | Path) -> TrainingStatistics:
    """stats.json of an experiment that trains. ValueError as `document.read`."""
    return document.read(path, TrainingStatistics)


def read_oracle(path: str | Path) -> OracleStatistics:
    """stats.json of an oracle experiment. ValueError as `document.read`."""
    return document.read(path, OracleStatistics)


def read(path: str | Path) -> Statistics:
    """stats.json of either kind. ValueError as `document.read`."""
    held = document.read(path, TrainingStatistics, OracleStatistics)
    assert isinstance(held, TrainingStatistics | OracleStatistics)
    return held
