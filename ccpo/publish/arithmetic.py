"""Whether a printed number can be what it says: a share of a count, a spread beside a mean, a value
that follows from others. And what is known of each paper, in words and as a table.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from ccpo.document import near
from ccpo.publish.published import OfPaper, Paper, Published, Value


@dataclass(frozen=True)
class Check:
    """Whether a printed number can be what it says; None: nothing about it can be checked."""

    possible: bool | None
    reason: str  # why it cannot, or what was checked


def half_unit(value: Decimal) -> Decimal:
    """Half a unit of the last printed digit: how far rounding can have moved it."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)  # finite, as every number that is read
    return Decimal(1).scaleb(exponent) / 2


def counts(value: Decimal, items: int, runs: int) -> range:
    """How many of `items` x `runs` answers can be right for a mean accuracy of `value` per cent to
    be printed: none where no whole number rounds to it (the GRIM test, Brown and Heathers 2017).
    """
    total = items * runs
    low = Fraction(value - half_unit(value)) * total / 100
    high = Fraction(value + half_unit(value)) * total / 100
    return range(max(0, math.ceil(low)), min(total, math.floor(high)) + 1)


def spread_possible(value: Decimal, spread: Decimal, items: int, runs: int) -> bool:
    """Whether the sample standard deviation over `runs` of whole numbers of right answers can be
    printed as `spread` beside the mean `value`, both in per cent (as in the GRIMMER test, Anaya
    2016): for some sum S of the numbers there is a sum of squares Q >= S^2 / runs, of S's parity,
    with the variance (Q - S^2 / runs) / (runs - 1). Necessary, not sufficient.
    """
    low = max(Fraction(0), Fraction(spread - half_unit(spread)) * items / 100)
    high = Fraction(spread + half_unit(spread)) * items / 100
    for total in counts(value, items, runs):
        mean_square = Fraction(total**2, runs)
        first = math.ceil(mean_square + (runs - 1) * low**2)
        last = math.floor(mean_square + (runs - 1) * high**2)
        if any(squares % 2 == total % 2 for squares in range(first, min(last, first + 1) + 1)):
            return True
    return False


def check(value: Value, values: Mapping[str, Value]) -> Check:
    """The arithmetic of a printed number: its share of a count, its spread, and what it follows
    from, each as far as what is printed allows.
    """
    results = [*_counted(value), *_related(value, values)]
    failures = [why for possible, why in results if not possible]
    if failures:
        return Check(False, "; ".join(failures))
    if results:
        return Check(True, "; ".join(why for _, why in results))
    return Check(None, "nothing to check it by")


def _counted(value: Value) -> Iterator[tuple[bool, str]]:
    """Granularity of an accuracy and of its spread."""
    if value.unit != "%" or value.items is None or value.runs is None or value.precision:
        return
    of = f"{value.items} questions x {value.runs}"
    if value.metric.startswith(("accuracy", "pass@")):
        fits = bool(counts(value.value, value.items, value.runs))
        yield fits, f"{value.value} % is {'a' if fits else 'no'} share of {of}"
        is_sd = value.spread is not None and value.spread_kind == "sd over seeds"
        if fits and is_sd and value.runs > 1 and value.spread is not None:
            can = spread_possible(value.value, value.spread, value.items, value.runs)
            yield can, f"an sd of {value.spread} is {'' if can else 'im'}possible beside it"


def _related(value: Value, values: Mapping[str, Value]) -> Iterator[tuple[bool, str]]:
    """Whether it follows from the values that it is of, within their rounding."""
    if not value.relation:
        return
    parts = [values[key] for key in value.of]
    low, high = _range(value.relation, parts)
    own = half_unit(value.value)
    fits = low <= value.value + own and value.value - own <= high
    names = {"same": "the value", "mean": "the mean", "sum": "the sum"}
    name = names.get(value.relation, f"the {value.relation}")
    centre = (low + high) / 2
    yield fits, f"{value.value} is {'' if fits else 'not '}{name} of its parts, {centre:.6g}"


def _range(relation: str, parts: Sequence[Value]) -> tuple[Decimal, Decimal]:
    """Between what limits the relation's result lies, by the rounding of its parts."""
    lows = [part.value - half_unit(part.value) for part in parts]
    highs = [part.value + half_unit(part.value) for part in parts]
    if relation == "sum":
        return sum(lows, Decimal(0)), sum(highs, Decimal(0))
    if relation == "mean":
        return sum(lows, Decimal(0)) / len(lows), sum(highs, Decimal(0)) / len(highs)
    if relation == "difference":  # the first minus the mean of the others
        others = len(parts) - 1
        rest_low = sum(lows[1:], Decimal(0)) / others
        rest_high = sum(highs[1:], Decimal(0)) / others
        return lows[0] - rest_high, highs[0] - rest_low
    if relation == "ratio":
        return lows[0] / highs[1], highs[0] / lows[1]
    return lows[0], highs[0]


# -- what is known, in words


def summary(known: Published, paper: str = "") -> Iterator[str]:
    """How many values, settings and claims are known by version of each paper, and which values
    cannot be what they say.

    Raises:
        ValueError: there is no such paper.
    """
    names = {row.paper for row in known.papers}
    if paper and paper not in names:
        raise ValueError(f"paper '{paper}' is not in papers.csv. {near(paper, names)}")
    checks = {key: check(value, known.values) for key, value in known.values.items()}
    for row in known.papers:
        if paper in ("", row.paper):
            yield _known(row, known, checks)
    for key, checked in checks.items():
        if paper in ("", known.values[key].paper) and checked.possible is False:
            yield f"impossible: {key} ({known.values[key].source}): {checked.reason}"


def _known(row: Paper, known: Published, checks: Mapping[str, Check]) -> str:
    own = [checks[value.key].possible for value in known.of(row.paper, row.version)]
    rows: tuple[Sequence[OfPaper], ...] = (known.hyper, known.claims, known.missing)
    settings, claims, missing = (
        sum((other.paper, other.version) == (row.paper, row.version) for other in of_kind)
        for of_kind in rows
    )
    return (
        f"{row.paper} {row.version}: {len(own)} values ({own.count(True)} possible, "
        f"{own.count(False)} impossible, {own.count(None)} with nothing to check them by), "
        f"{settings} settings, {claims} claims; {missing} known to be missing"
    )


def as_csv(known: Published, paper: str = "") -> str:
    """Every value as a line of CSV, with the columns `possible` (yes, no, or nothing where nothing
    can be checked) and `arithmetic`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*Value.model_fields, "possible", "arithmetic"])
    for value in known.values.values():
        if paper in ("", value.paper):
            checked = check(value, known.values)
            cells = [_text(getattr(value, name)) for name in Value.model_fields]
            writer.writerow([*cells, POSSIBLE[checked.possible], checked.reason])
    return text.getvalue()


POSSIBLE = {True: "yes", False: "no", None: ""}


def _text(cell: object) -> str:
    if isinstance(cell, tuple):
        return " ".join(cell)
    return "" if cell is None else str(cell)
