"""Reward and credit by agent."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import COLOURS, ends, labels, legend
from ccpo.publish.statistics import TrainingStatistics

KIND = "training"
ORDER = 5
CAPTION = "What the verifier paid for an agent's messages, and what the credit method made of it."


def applies(contents: Contents) -> bool:
    """Where something is trained."""
    return contents.trained


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    return pd.DataFrame(
        [
            {"condition": label, **dict(row)}
            for label, condition in numbers.conditions.items()
            for row in condition.agents
            if row.part == "last" and row.quantity != "leakage"
        ]
    )


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    rows = list(dict.fromkeys(zip(frame.condition, frame.agent, strict=True)))
    for i, (quantity, marker) in enumerate((("reward", "o"), ("credit", "D"))):
        drawn = frame[frame.quantity == quantity]
        y = [
            rows.index((c, a)) + 0.12 * (2 * i - 1)
            for c, a in zip(drawn.condition, drawn.agent, strict=True)
        ]
        axes.errorbar(
            drawn["mean"],
            y,
            xerr=ends(drawn),
            fmt=marker,
            ms=6,
            color=COLOURS[i],
            capsize=3,
            label=quantity,
        )
    axes.set_yticks(range(len(rows)), [f"{c}, agent {a}" for c, a in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    labels(
        axes,
        "Reward and credit of an agent's messages, last fifth of training",
        "mean over messages",
        "",
    )
    legend(axes)
