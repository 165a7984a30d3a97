"""Declared comparisons under every choice that there are answers for."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import bounds, labels
from ccpo.publish.statistics import TrainingStatistics

KIND = "training"
ORDER = 22
CAPTION = (
    "Each declared comparison under every choice: estimates with unadjusted 95 % intervals, "
    "sorted, and below the choices that each was made under. Blue: clearly above 0, red: clearly "
    "below, grey: neither. The diamond is the choice that was declared. Training reward is of "
    "the last tenth of the updates, at its end or within the smaller budget."
)
COLOUR = {"above": "#0072B2", "below": "#D55E00", "not clear": "#8a8a8a"}
LINE = 0.155  # inches of a level of a choice


def applies(contents: Contents) -> bool:
    """Where something is compared."""
    return contents.compared


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    return pd.DataFrame(
        [
            {
                "panel": f"{curve.a} − {curve.b}",
                **bounds(row),
                "verdict": row.verdict,
                "declared": row.declared,
                "tasks": row.tasks,
                "choices": "; ".join(f"{name}: {level}" for name, level in row.choices.items()),
            }
            for curve in numbers.curves
            for row in curve.specifications
        ]
    )


def levels(frame: pd.DataFrame) -> list[str]:
    """The levels of choices, those of one choice together; what all answers have is no choice."""
    answered = [set(text.split("; ")) for text in frame[frame.tasks > 0].choices]
    every = dict.fromkeys(level for text in frame.choices for level in text.split("; "))
    chosen = [level for level in every if not all(level in row for row in answered)]
    names = list(dict.fromkeys(level.split(": ")[0] for level in chosen))
    return sorted(chosen, key=lambda level: (names.index(level.split(": ")[0]), level))


def height(frame: pd.DataFrame) -> float:
    """Inches of a panel."""
    return 1.8 + LINE * len(levels(frame))


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    shown = levels(frame)
    share = LINE * len(shown) / height(frame)
    axes.axis("off")
    above = axes.inset_axes((0.0, share + 0.03, 1.0, 0.91 - share))
    below = axes.inset_axes((0.0, 0.0, 1.0, share), sharex=above)
    for x, row in enumerate(frame.itertuples()):
        colour = COLOUR[row.verdict]
        if not pd.isna(row.ci_low):
            above.plot([x, x], [100 * row.ci_low, 100 * row.ci_high], color=colour, lw=1.1)
        mark = {"marker": "D", "ms": 5.5, "mec": "#000000"} if row.declared else {"marker": "o"}
        above.plot([x], [100 * row.mean], **{"ms": 3, "color": colour, **mark})
        for level in row.choices.split("; "):
            if level in shown:
                below.plot([x], [shown.index(level)], marker="s", ms=2.6, color=colour)
    above.axhline(0.0, color="#444444", lw=0.8)
    above.set_title(frame.panel.iloc[0], fontsize=9)
    above.set_ylabel("points", fontsize=8)
    above.tick_params(labelbottom=False, length=0, labelsize=8)
    above.grid(False, axis="x")
    below.set_yticks(range(len(shown)), shown, fontsize=6.5)
    below.set_ylim(len(shown) - 0.5, -0.5)
    below.tick_params(labelbottom=False, length=0)
    below.grid(False)
    for inner in (above, below):
        inner.spines[["top", "right", "bottom"]].set_visible(False)
    labels(axes, "The same comparison under other choices", "", "")
