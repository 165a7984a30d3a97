"""Accuracy by the tokens that training generated."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import bounds, ends, labels, legend
from ccpo.publish.statistics import FACTUAL, TrainingStatistics

KIND = "training"
ORDER = 6
CAPTION = "Every token that training generated counts, counterfactual episodes included."


def applies(contents: Contents) -> bool:
    """Where something is trained."""
    return contents.trained


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    rows = []
    for label, condition in numbers.conditions.items():
        tokens = condition.ledger.generated_tokens
        row = {"condition": label, "generated_tokens": tokens, **bounds(condition.main[FACTUAL])}
        rows.append(row)
    return pd.DataFrame(rows)


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    for i, row in frame.iterrows():
        one = frame.loc[[i]]
        axes.errorbar(
            one.generated_tokens / 1000,
            one["mean"] * 100,
            yerr=ends(one, 100),
            fmt="o",
            ms=7,
            capsize=3,
            color=colours[row.condition],
            label=row.condition,
        )
    axes.set_xlim(0, frame.generated_tokens.max() / 1000 * 1.15 + 1e-9)
    labels(
        axes,
        "Accuracy against what training generated",
        "generated tokens, thousands",
        "accuracy on test tasks, %",
    )
    legend(axes)
