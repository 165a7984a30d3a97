"""Team reward by generated tokens while training."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Study
from ccpo.publish.figure._axes import labels, legend

KIND = "training"
ORDER = 1
CAPTION = (
    "Mean outcome of the episodes each update was trained on, over fresh tasks at the "
    "training temperature."
)


def applies(study: Study) -> bool:
    """Where something is trained."""
    return study.trained


def collect(numbers: dict[str, Any]) -> pd.DataFrame:
    """The plotted numbers."""
    return pd.DataFrame(
        [{"condition": c, **row} for c, v in numbers["conditions"].items() for row in v["curve"]]
    )


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    for condition, rows in frame.groupby("condition", sort=False):
        axes.plot(rows.tokens / 1000, rows["mean"], color=colours[condition], label=condition)
        if rows.ci_low.notna().all():
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
