"""What figures have in common: colours, titles, legends."""

from __future__ import annotations

from typing import Any

import pandas as pd

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


def half(frame: pd.DataFrame) -> Any:
    """Half widths of the intervals; 0 where one seed gives none."""
    return (frame.ci_high - frame["mean"]).fillna(0.0)


def primary(condition: dict[str, Any]) -> dict[str, Any]:
    """Accuracies by intervention, of the first benchmark under the primary decoding."""
    return condition["accuracy"][condition["benchmark"]][condition["primary"]]
