"""The trained team, and each of its agents alone."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo import intervention
from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import COLOURS, bounds, ends, labels, legend
from ccpo.publish.statistics import FACTUAL, TrainingStatistics

KIND = "training"
ORDER = 4
CAPTION = (
    "Accuracy of the team and of each agent that can answer alone. Only teams with more than one "
    "agent."
)
MARKERS = "oDvsP^X*"


def applies(contents: Contents) -> bool:
    """Where an agent answers alone."""
    return any(_alone(kind) for kind in contents.interventions)


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    rows = []
    for label, condition in numbers.conditions.items():
        shown = {k: row for k, row in condition.main.items() if k == FACTUAL or _alone(k)}
        if len(shown) > 1:
            rows += [
                {"condition": label, "intervention": kind, **bounds(row)}
                for kind, row in shown.items()
            ]
    return pd.DataFrame(rows)


def _alone(kind: str) -> bool:
    return intervention.parse(kind)[0] == "solo"


def _words(kind: str) -> str:
    name, agent = intervention.parse(kind)
    return str(intervention.load(name).LABEL) if kind == FACTUAL else f"agent {agent} alone"


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    names = list(dict.fromkeys(frame.condition))
    kinds = list(dict.fromkeys(frame.intervention))
    for i, kind in enumerate(kinds):
        rows = frame[frame.intervention == kind]
        marker = MARKERS[i % len(MARKERS)]
        label = _words(kind)
        y = [
            names.index(c) + 0.56 / len(kinds) * (i - (len(kinds) - 1) / 2) for c in rows.condition
        ]
        axes.errorbar(
            rows["mean"] * 100,
            y,
            xerr=ends(rows, 100),
            fmt=marker,
            ms=6,
            color=COLOURS[i % len(COLOURS)],
            capsize=3,
            label=label,
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    labels(
        axes,
        "The trained team, and its agents alone",
        "accuracy on test tasks, %",
        "",
    )
    legend(axes)
