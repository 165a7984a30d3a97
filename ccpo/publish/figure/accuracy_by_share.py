"""Accuracy of the team on the tasks of its probe, by share of the training."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import ends, labels, legend
from ccpo.publish.statistics import TrainingStatistics

KIND = "training"
ORDER = 8
CAPTION = (
    "Accuracy of whole episodes on the test tasks of the probe, drawn as in training, by share of "
    "the training at which the team was probed. Means over seeds, 95 % intervals."
)
FIRST = 0  # the candidates and replays of the first turn are whole episodes


def applies(contents: Contents) -> bool:
    """Where an experiment asks for probes."""
    return contents.probed


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    if numbers.probes is None:
        return pd.DataFrame()
    return pd.DataFrame(
        [
            {
                "condition": row.condition,
                "step": row.at,
                "mean": row.mean,
                "ci_low": row.ci_low,
                "ci_high": row.ci_high,
            }
            for row in numbers.probes.of("reward")
            if row.turn == FIRST
        ]
    )


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    for i, (condition, rows) in enumerate(frame.groupby("condition", sort=False)):
        own = rows.sort_values("step")
        axes.errorbar(
            own.step * 100 + 0.6 * i,
            own["mean"] * 100,
            yerr=ends(own, 100),
            fmt="o-",
            ms=5,
            capsize=3,
            color=colours[str(condition)],
            label=condition,
        )
    labels(axes, "Accuracy by share of the training", "share of the training, %", "accuracy, %")
    legend(axes)
