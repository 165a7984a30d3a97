"""What the variance of each primary number is made of, and what more effort buys."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import COLOURS, labels
from ccpo.publish.statistics import TrainingStatistics

KIND = "training"
ORDER = 21
CAPTION = (
    "Where the variance of each primary number comes from, in shares of the whole: which training "
    "seed (with its base model, where the two cannot be told apart), which tasks, which tasks "
    "which seed learns, which answers are drawn, which grader, which tie rule. Right: half the "
    "95 % interval over seeds in points as it is predicted from these parts, now, and with one "
    "replicate (base model or seed), one sample of each task, or 100 tasks more. A dash: changes "
    "nothing, or cannot be told."
)
PARTS = {
    "base": "base model",
    "seed": "training seed",
    "item": "tasks",
    "seed_item": "seed × task",
    "draw": "draw of answers",
    "grader": "grader",
    "tie": "tie rule",
}
START = 110  # of the columns right of the bars, and how far they are apart
STEP = 21
MORE = {"now": "now", "replicate": "+1 seed", "sample": "+1 sample", "tasks": "+100 tasks"}


def applies(contents: Contents) -> bool:
    """Where something is trained: one seed has no variance, and says so."""
    return contents.trained


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    rows = []
    for row in numbers.budgets:
        parts = row.variances.model_dump()
        known = parts["seed"] is not None  # else of one seed, which has no shares of a whole
        total = sum(value or 0.0 for value in parts.values()) if known else 0.0
        shares = {name: (parts[name] or 0.0) / total if total else 0.0 for name in PARTS}
        rows.append(
            {
                "panel": f"{row.kind}s",
                "number": row.number,
                "standard_deviation": total**0.5,
                **shares,
                **row.over_seeds.model_dump(),
            }
        )
    return pd.DataFrame(rows)


def height(frame: pd.DataFrame) -> float:
    """Inches of a panel."""
    return 0.9 + 0.27 * len(frame)


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    left = pd.Series(0.0, frame.index)
    for i, (name, words) in enumerate(PARTS.items()):
        share = 100 * frame[name]
        label = words if share.any() else None
        axes.barh(range(len(frame)), share, 0.7, left, color=COLOURS[i], label=label)
        left = left + share
    for x, (name, words) in enumerate(MORE.items()):
        at = START + STEP * x
        axes.text(at, -0.75, words, ha="center", va="bottom", fontsize=7)
        for y, value in enumerate(frame[name].astype(float)):
            text = "–" if pd.isna(value) else f"±{100 * value:.1f}"
            axes.text(at, y, text, ha="center", va="center", fontsize=8)
    axes.set_yticks(range(len(frame)), frame.number, fontsize=9)
    axes.set_ylim(len(frame) - 0.5, -0.5)
    axes.set_xlim(0, START + STEP * (len(MORE) - 0.5))
    axes.set_xticks([0, 25, 50, 75, 100])
    labels(axes, "Where the variance comes from", "share of the variance, %", "")
    axes.text(0, -0.75, frame.panel.iloc[0], va="bottom", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    if axes is axes.figure.axes[-1]:
        every = [other.get_legend_handles_labels() for other in axes.figure.axes]
        named = {label: handle for pair in every for handle, label in zip(*pair, strict=True)}
        shown = [label for label in PARTS.values() if label in named]
        handles = [named[label] for label in shown]
        axes.figure.legend(handles, shown, loc="outside lower center", ncols=4, fontsize=8)
