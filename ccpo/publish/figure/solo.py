"""The trained team under interventions."""

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
    "Accuracy when a message is withheld, emptied, or taken from another task. Only teams "
    "with more than one agent."
)
MARKERS = "oDvsP^X*"


def applies(contents: Contents) -> bool:
    """Where an intervention changes what a trained team hears."""
    return bool(contents.interventions - {"untrained"})


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    rows = []
    for label, condition in numbers.conditions.items():
        changed = {
            kind: row
            for kind, row in condition.main.items()
            if kind == FACTUAL or intervention.load(kind).POLICIES == "trained"
        }
        if len(changed) > 1:
            rows += [
                {"condition": label, "intervention": kind, **bounds(row)}
                for kind, row in changed.items()
            ]
    return pd.DataFrame(rows)


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    names = list(dict.fromkeys(frame.condition))
    kinds = list(dict.fromkeys(frame.intervention))
    for i, kind in enumerate(kinds):
        rows = frame[frame.intervention == kind]
        marker = MARKERS[i % len(MARKERS)]
        label = intervention.load(kind).LABEL
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
        "The trained team, and the team with a message taken away",
        "accuracy on test tasks, %",
        "",
    )
    legend(axes)
