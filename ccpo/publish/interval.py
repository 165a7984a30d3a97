"""Means with their intervals: what every record of statistics is made of."""

from __future__ import annotations

from ccpo.document import Record


class Interval(Record):
    """A mean over replicates and its interval (None where one replicate gives none)."""

    mean: float
    ci_low: float | None
    ci_high: float | None
    n: int


class Row(Interval):
    """A mean over replicates, and the value of every seed."""

    by_seed: dict[int, float]
