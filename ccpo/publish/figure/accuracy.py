"""Accuracy after and before training, every seed."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Study
from ccpo.publish.figure._axes import half, labels, primary

KIND = "training"
ORDER = 2
CAPTION = (
    "Each seed's accuracy on the same test tasks, its mean and t-interval; before training in grey."
)


def applies(study: Study) -> bool:
    """Always."""
    return True


def collect(numbers: dict[str, Any]) -> pd.DataFrame:
    """The plotted numbers."""
    rows = []
    for c, v in numbers["conditions"].items():
        for kind in ("untrained", "factual"):
            found = primary(v).get(kind)
            if found:
                head = {"condition": c, "team": "trained" if kind == "factual" else "untrained"}
                values = {k: found[k] for k in ("mean", "ci_low", "ci_high")}
                rows += [
                    {**head, **values, "seed": int(s), "value": x}
                    for s, x in found["by_seed"].items()
                ]
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
            xerr=half(one) * 100,
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
