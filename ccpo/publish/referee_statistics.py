"""Statistics that say what a number hangs on: its variance by source, and the same comparison under
other choices.
"""

from __future__ import annotations

from typing import Literal

from ccpo.document import Record
from ccpo.publish.interval import Interval


class Variances(Record):
    """Variance of a number by its source, as it is estimated here (in squared shares): None where
    the design cannot tell, or where there is no such source.
    """

    base: float | None  # between base models
    seed: float | None  # between training seeds, with their base models where not told apart
    item: float | None  # which tasks are asked
    seed_item: float | None  # which tasks which seed learns
    draw: float | None  # which answers are drawn; 0 greedily
    grader: float | None  # between graders of the same answers
    tie: float | None  # between tie rules of the same votes


class HalfWidths(Record):
    """Half of the predicted 95 % interval: as the design is, and with one replicate (base model or
    seed), one sample of each task, or MORE tasks more; None where that changes nothing or nothing
    is known.
    """

    now: float | None
    replicate: float | None
    sample: float | None
    tasks: float | None


class Budget(Record):
    """What the variance of a primary number is made of, and what more effort buys."""

    number: str  # a condition's label, or "a − b"
    kind: Literal["condition", "comparison"]
    estimate: float
    unit: str  # of replication
    replicates: int
    seeds: int
    tasks: int
    samples: int
    variances: Variances
    over_seeds: HalfWidths  # on these tasks
    over_both: HalfWidths  # on other tasks of the kind, too
    sentence: str


class Specification(Interval):
    """A comparison under one set of choices, by name of the choice; unadjusted."""

    choices: dict[str, str]
    declared: bool  # the one that the claim is made of
    tasks: int  # 0: training reward
    verdict: Literal["above", "below", "not clear"]


class Matching(Record):
    """How far training was apart in one resource: means over seeds."""

    resource: str
    a: float
    b: float
    apart: float
    matched: bool  # within the experiment's tolerance


class SpecificationCurve(Record):
    """A declared comparison under every choice that the experiment has answers for."""

    a: str
    b: str
    specifications: tuple[Specification, ...]  # by their means
    matchings: tuple[Matching, ...]
    sentence: str
