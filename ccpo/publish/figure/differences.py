"""Declared differences beside what chance alone makes of two trainings of one condition."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import bounds, ends, labels
from ccpo.publish.statistics import Comparison, Repeat, TrainingStatistics

KIND = "training"
ORDER = 3
CAPTION = (
    "Differences of the declared comparisons with 95 % intervals over seeds, not adjusted. Dotted: "
    "the smallest difference that was declared to matter. Grey band: the interval of a condition "
    "against its own repeat with other seeds (`repeat_of`), where one was declared."
)


def applies(contents: Contents) -> bool:
    """Where something is compared."""
    return contents.compared


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    compared: list[Comparison | Repeat] = [*numbers.comparisons, *numbers.repeats]
    return pd.DataFrame(
        [
            {
                "comparison": f"{row.a} − {row.b}",
                "repeat": isinstance(row, Repeat),
                **bounds(row.main),
                "effect": numbers.effect,
            }
            for row in compared
        ]
    )


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    declared = frame[~frame["repeat"]]
    for row in frame[frame["repeat"]].itertuples():
        if not pd.isna(row.ci_low):
            axes.axvspan(100 * row.ci_low, 100 * row.ci_high, color="#8a8a8a", alpha=0.25, lw=0)
    shown = declared if len(declared) else frame
    axes.errorbar(
        shown["mean"] * 100,
        range(len(shown)),
        xerr=ends(shown, 100),
        fmt="o",
        ms=6,
        color="#0072B2",
        capsize=3,
    )
    effect = 100 * frame.effect.iloc[0]
    for at, style in ((-effect, ":"), (0.0, "-"), (effect, ":")):
        axes.axvline(at, color="#444444", lw=0.8, ls=style)
    axes.set_yticks(range(len(shown)), shown.comparison)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    labels(axes, "Differences that were declared", "difference of accuracies, points", "")
