"""What the shared reward does not explain of an advantage."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import labels, legend
from ccpo.publish.statistics import TrainingStatistics

KIND = "training"
ORDER = 7
CAPTION = (
    "1 minus the share of the advantage's variance, inside groups, explained by an affine "
    "image of the shared advantage."
)


def applies(contents: Contents) -> bool:
    """Where something is trained."""
    return contents.trained


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    return pd.DataFrame(
        [
            {"condition": label, **dict(row)}
            for label, condition in numbers.conditions.items()
            for row in condition.role_information
        ]
    )


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    highest = frame.groupby(["condition", "agent"], sort=False)["mean"].max()
    silent = [f"{c} {a}" for (c, a), v in highest.items() if v < 1e-9]
    for (condition, agent), rows in frame.groupby(["condition", "agent"], sort=False):
        if highest[condition, agent] >= 1e-9:
            axes.plot(
                rows.step,
                rows["mean"],
                color=colours[condition],
                ls=("-", "--", ":")[agent % 3],
                label=f"{condition}, agent {agent}",
            )
    if silent:
        axes.plot(
            [frame.step.min(), frame.step.max()],
            [0, 0],
            color="#8a8a8a",
            lw=3,
            label=f"0: {len(silent)} agents, {len({s.rsplit(' ', 1)[0] for s in silent})} "
            "conditions",
        )
    axes.set_ylim(-0.03, max(1.0, highest.max()) + 0.03)
    labels(
        axes,
        "Share of the advantage that the shared reward does not explain",
        "update",
        "role information",
    )
    legend(axes)
