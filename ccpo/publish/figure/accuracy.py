"""Accuracy after and before training, every seed."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import bounds, ends, labels
from ccpo.publish.statistics import FACTUAL, UNTRAINED, TrainingStatistics

KIND = "training"
ORDER = 2
CAPTION = (
    "Each seed's accuracy on the same test tasks, its mean and t-interval; before training in grey."
)


def applies(contents: Contents) -> bool:
    """Always."""
    return True


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    rows = []
    for label, condition in numbers.conditions.items():
        for kind, team in ((UNTRAINED, "untrained"), (FACTUAL, "trained")):
            if row := condition.main.get(kind):
                head = {"condition": label, "team": team, **bounds(row)}
                rows += [{**head, "seed": s, "value": x} for s, x in row.by_seed.items()]
    return pd.DataFrame(rows)


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    names = list(dict.fromkeys(frame.condition))
    for (condition, team), rows in frame.groupby(["condition", "team"], sort=False):
        trained = team == "trained"
        y = names.index(condition) + (0.14 if trained else -0.14)
        colour = colours[condition] if trained else "#8a8a8a"
        axes.scatter(rows.value * 100, [y] * len(rows), s=16, color=colour, alpha=0.45, lw=0)
        one = rows.iloc[:1]
        axes.errorbar(
            one["mean"] * 100,
            [y],
            xerr=ends(one, 100),
            fmt="o" if trained else "s",
            ms=6,
            color=colour,
            capsize=3,
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    labels(
        axes,
        "Accuracy after training (grey squares: before). Dots: seeds",
        "accuracy on test tasks, %",
        "",
    )
