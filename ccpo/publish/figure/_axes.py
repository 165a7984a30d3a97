"""What figures have in common: colours, titles, legends."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.statistics import Interval

# Okabe and Ito's palette, told apart by colour-blind readers, and a brown
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C564B"]


def labels(axes: Any, title: str, x: str, y: str) -> None:
    # at the figure's edge, so that long labels cannot push it out
    axes.figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    if axes is axes.figure.axes[-1]:
        axes.set_xlabel(x)
    axes.set_ylabel(y)


def legend(axes: Any) -> None:
    """Below the axes, where it can cover no data; beside them where there are several, once for
    what is the same in all.
    """
    handles, labels = axes.get_legend_handles_labels()
    if len(axes.figure.axes) > 1:
        shown = [
            [text.get_text() for text in other.get_legend().get_texts()]
            for other in axes.figure.axes
            if other.get_legend()
        ]
        if labels not in shown:
            axes.legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
        return
    axes.figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(3 if max(map(len, labels)) < 16 else 2, len(labels)),
    )


def ends(frame: pd.DataFrame, times: float = 1.0) -> Any:
    """How far the ends of the intervals are from the means, [2, rows]: they differ where a share
    reaches 0 or 1; 0 where there is no interval.
    """
    low = (frame["mean"] - frame.ci_low.astype(float)).fillna(0.0)
    high = (frame.ci_high.astype(float) - frame["mean"]).fillna(0.0)
    return [(low * times).clip(lower=0), (high * times).clip(lower=0)]


def bounds(row: Interval) -> dict[str, float | None]:
    """Mean and ends of an interval, as columns of a frame."""
    return {"mean": row.mean, "ci_low": row.ci_low, "ci_high": row.ci_high}
