"""Team reward by generated tokens while training."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import labels, legend
from ccpo.publish.statistics import TrainingStatistics

KIND = "training"
ORDER = 1
CAPTION = (
    "Mean outcome of the episodes each update was trained on, over fresh tasks at the "
    "training temperature."
)


def applies(contents: Contents) -> bool:
    """Where something is trained."""
    return contents.trained


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    return pd.DataFrame(
        [
            {"condition": label, **dict(point)}
            for label, condition in numbers.conditions.items()
            for point in condition.curve
        ]
    )


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    for condition, rows in frame.groupby("condition", sort=False):
        axes.plot(rows.tokens / 1000, rows["mean"], color=colours[condition], label=condition)
        if rows.ci_low.notna().any():
            axes.fill_between(
                rows.tokens / 1000,
                rows.ci_low.astype(float),
                rows.ci_high.astype(float),
                color=colours[condition],
                alpha=0.15,
                lw=0,
            )
    labels(
        axes,
        "Team reward while training (mean and 95 % interval over seeds)",
        "generated tokens, thousands",
        "reward, sampled",
    )
    legend(axes)
