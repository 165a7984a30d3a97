"""The trained team under interventions."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo import intervention
from ccpo.publish.figure import Study
from ccpo.publish.figure._axes import COLOURS, half, labels, legend, primary

KIND = "training"
ORDER = 4
CAPTION = (
    "Accuracy when a message is withheld, emptied, or taken from another task. Only teams "
    "with more than one agent."
)
MARKERS = "oDvsP^X*"


def applies(study: Study) -> bool:
    """Where an intervention changes what a trained team hears."""
    return bool(study.interventions - {"untrained"})


def collect(numbers: dict[str, Any]) -> pd.DataFrame:
    """The plotted numbers."""
    rows = []
    for c, v in numbers["conditions"].items():
        kinds = primary(v)
        changed = [
            kind
            for kind in kinds
            if kind == "factual" or intervention.load(kind).POLICIES == "trained"
        ]
        if len(changed) > 1:
            values = ("mean", "ci_low", "ci_high")
            rows += [
                {"condition": c, "intervention": kind, **{k: kinds[kind][k] for k in values}}
                for kind in changed
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
            xerr=half(rows) * 100,
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
