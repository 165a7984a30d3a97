"""Accuracy and nats per token by temperature, trained and untrained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import bounds, labels, legend
from ccpo.publish.statistics import FACTUAL, UNTRAINED, Row, TrainingStatistics

KIND = "training"
ORDER = 3
CAPTION = (
    "Sharpening alone lifts the right end of a line, not its left; nats per token, under the "
    "distribution that was drawn from, estimate its entropy."
)
ACCURACY = "accuracy, %"
UNSURE = "nats per token"


def applies(contents: Contents) -> bool:
    """Where teams answer at several temperatures."""
    return contents.decodings > 1


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    rows = []
    for label, condition in numbers.conditions.items():
        for decoding, drawn in condition.decodings.items():
            rows += _rows(label, ACCURACY, drawn.temperature, condition.under(decoding))
        for decoding, drawn in condition.decodings.items():
            if drawn.temperature > 0:  # a greedy answer is drawn from no distribution
                rows += _rows(label, UNSURE, drawn.temperature, condition.nll[decoding])
    return pd.DataFrame(rows)


def _rows(
    label: str, panel: str, temperature: float, kinds: Mapping[str, Row]
) -> list[dict[str, object]]:
    return [
        {
            "condition": label,
            "panel": panel,
            "team": team,
            "temperature": temperature,
            **bounds(kinds[kind]),
            "n": kinds[kind].n,
        }
        for kind, team in ((FACTUAL, "trained"), (UNTRAINED, "untrained"))
        if kind in kinds
    ]


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel: accuracy or nats per token. A team before training is drawn in its colour too,
    dotted.
    """
    accuracy = frame.panel.iloc[0] == ACCURACY
    scale = 100.0 if accuracy else 1.0
    for (condition, team), rows in frame.groupby(["condition", "team"], sort=False):
        line = rows.sort_values("temperature")
        trained = team == "trained"
        style = (
            {"marker": "o", "ls": "-", "lw": 1.8}
            if trained
            else {"marker": "s", "ls": ":", "lw": 1.1}
        )
        label = condition if trained else "_"
        axes.plot(
            line.temperature,
            line["mean"] * scale,
            color=colours[condition],
            ms=4,
            label=label,
            **style,
        )
        if trained and line.ci_low.notna().any():
            low = line.ci_low.astype(float) * scale
            high = line.ci_high.astype(float) * scale
            axes.fill_between(
                line.temperature, low, high, color=colours[condition], alpha=0.12, lw=0
            )
    axes.set_ylim(0, 100 if accuracy else None)
    title = "By temperature: accuracy, and how unsure the team is (dotted: untrained)"
    labels(axes, title, "temperature (0: greedy)", ACCURACY if accuracy else UNSURE)
    legend(axes)
