"""The forecast of an experiment as a document: ccpo/operate/forecast.py makes it, tables and the
report show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ccpo import document
from ccpo.document import Document, Record
from ccpo.publish.tables import amount, duration


@dataclass(frozen=True)
class Pace:
    """What one run of a condition does: tokens, verifier's calls and seconds of an update, tokens
    and seconds of an evaluated task with all its interventions, seconds of starting, bytes on disk.
    """

    source: str
    updates: int
    generated: float
    prompt: float
    calls: float
    seconds: float
    task_generated: float
    task_seconds: float
    start: float
    disk: float


class ErrorFactors(Record):
    """A number may be off by its factor either way."""

    tokens: float
    seconds: float


class ConditionForecast(Record):
    """All runs of a condition together: tokens, calls, seconds of work, GPU-hours, bytes; `updates`
    are those of one run.
    """

    condition: str
    runs: int
    source: str
    updates: int
    train_tokens: float
    evaluation_tokens: float
    calls: float
    update_seconds: float
    seconds: float
    gpu_hours: float
    disk: float
    error: ErrorFactors


class SeedsForecast(Record):
    """The seeds that find the declared effect of a comparison with 80 % power (None: more than a
    thousand), and from what spread of paired differences that is.
    """

    a: str
    b: str
    effect: float
    sd: float
    source: str
    needed: int | None


class Forecast(Document):
    """What an experiment will cost: `slots` runs side by side, `wall` seconds by the clock, and the
    pilots it rests on by their key.
    """

    kind: Literal["forecast"] = "forecast"
    version: Literal[1] = 1
    experiment: str
    slots: int
    gpus: bool
    conditions: tuple[ConditionForecast, ...]
    wall: float
    wall_error: float
    jobs: int
    seeds: tuple[SeedsForecast, ...]
    pilots: dict[str, Pace]


def read(path: Path) -> Forecast:
    """A forecast that was written.

    Raises:
        ValueError: it is missing, or no forecast of this version.
    """
    return document.read(path, Forecast)


HEAD = (
    "condition",
    "runs",
    "updates",
    "train tokens",
    "eval tokens",
    "calls",
    "time of work",
    "GPU-h",
    "disk",
    "known from",
)


def lines(forecast: Forecast) -> list[str]:
    """A forecast as lines of text."""
    rows = [HEAD, *(_row(condition, forecast.gpus) for condition in forecast.conditions)]
    rows.append(_total(forecast))
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    table = [
        "  ".join(
            cell.ljust(width) if name in ("condition", "known from") else cell.rjust(width)
            for name, cell, width in zip(HEAD, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    return [*table, "", _wall(forecast), *(_decided(forecast, row) for row in forecast.seeds)]


def _row(condition: ConditionForecast, gpus: bool) -> tuple[str, ...]:
    error = condition.error
    return (
        condition.condition,
        str(condition.runs),
        str(condition.updates),
        *_amounts([condition], gpus),
        f"{condition.source} (tokens ×/÷ {error.tokens:g}, time ×/÷ {error.seconds:g})",
    )


def _total(forecast: Forecast) -> tuple[str, ...]:
    runs = sum(condition.runs for condition in forecast.conditions)
    return ("all", str(runs), "", *_amounts(forecast.conditions, forecast.gpus), "")


def _amounts(conditions: Sequence[ConditionForecast], gpus: bool) -> tuple[str, ...]:
    """The cells of what is summed over conditions."""
    gpu_hours = sum(condition.gpu_hours for condition in conditions)
    return (
        amount(sum(condition.train_tokens for condition in conditions)),
        amount(sum(condition.evaluation_tokens for condition in conditions)),
        amount(sum(condition.calls for condition in conditions)),
        duration(sum(condition.seconds for condition in conditions)),
        f"{gpu_hours:.1f}" if gpus else "",
        f"{amount(sum(condition.disk for condition in conditions))}B",
    )


def _wall(forecast: Forecast) -> str:
    """Time by the clock, with its error."""
    low = forecast.wall / forecast.wall_error
    high = forecast.wall * forecast.wall_error
    where = f"{forecast.slots} {'GPU' if forecast.gpus else 'core'}(s)"
    return (
        f"wall time on {where}: about {duration(forecast.wall)} ({duration(low)} to "
        f"{duration(high)}); {forecast.jobs} cluster jobs"
    )


def _decided(forecast: Forecast, row: SeedsForecast) -> str:
    """The seeds that decide a comparison."""
    needs = f"{row.needed} seeds" if row.needed else "more than 1000 seeds"
    return (
        f"{row.a} against {row.b}: {needs} find a difference of {100 * row.effect:g} points "
        f"(80 % power, Holm over {len(forecast.seeds)}; sd of differences {100 * row.sd:.1f} "
        f"points, {row.source})"
    )
