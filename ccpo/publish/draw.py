"""Draws a figure (ccpo/publish/figure) from statistics, and writes the numbers plotted."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from ccpo import lineage, schema
from ccpo.publish import figure
from ccpo.publish.figure._axes import COLOURS
from ccpo.publish.statistics import Statistics, TrainingStatistics, read_oracle, read_training

_READ: dict[str, Callable[[Path], Statistics]] = {"training": read_training, "oracle": read_oracle}

STYLE: Any = {
    "figure.figsize": (6.4, 3.9),
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "ccpo",
    "svg.fonttype": "path",
}


def draw(name: str, stats: Path, svg: Path, csv: Path) -> None:
    """Draws figure `name` and writes the numbers it was drawn from.

    Raises:
        ValueError: an unknown figure, or stats that hold nothing to draw it from. Where runs are
        missing, the figure says so instead.
    """
    begun = lineage.begin([stats])
    picture, numbers = drawn(name, stats)
    schema.write_text(csv, numbers)
    schema.write_bytes(svg, picture)
    for artefact in (svg, csv):
        lineage.write_passport(artefact, begun)


def drawn(name: str, stats: Path) -> tuple[bytes, str]:
    """The SVG of a figure, and the plotted numbers as CSV. ValueError as `draw`."""
    if name not in figure.names():
        raise ValueError(
            f"figure '{name}' is not a file in ccpo/publish/figure/. Known: "
            f"{', '.join(figure.names())}."
        )
    rule = figure.load(name)
    numbers = _READ[rule.KIND](stats)
    frame = rule.collect(numbers)
    partial = isinstance(numbers, TrainingStatistics) and bool(numbers.left_out)
    if frame.empty and not partial:
        raise ValueError(f"figure {name}: {stats} holds nothing to draw")
    parts = [("", frame)] if frame.empty else panels(numbers, frame)
    height = _height if frame.empty else getattr(rule, "height", _height)
    return _picture(parts, rule.paint, height), frame.to_csv(index=False)


LEGEND = 0.6  # inches of title and legend, around panels of a height of their own
Paint = Callable[[pd.DataFrame, Any, dict[str, str]], None]
Height = Callable[[pd.DataFrame], float]


def _picture(parts: list[tuple[str, pd.DataFrame]], paint: Paint, height: Height) -> bytes:
    """The SVG of panels, one below the other."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    usual = height is _height
    heights = [height(part) for _, part in parts]
    size = (7.4, sum(heights) + (0.0 if usual else LEGEND))
    if len(parts) == 1 and usual:
        size = STYLE["figure.figsize"]
    with plt.rc_context(STYLE):
        drawn, grid = plt.subplots(
            len(parts),
            figsize=size,
            sharex=usual and len(parts) > 1,
            squeeze=False,
            height_ratios=heights,
        )
        for (title, part), axes in zip(parts, grid[:, 0], strict=True):
            if part.empty:
                _say_that_nothing_is_there(axes)
                continue
            names = list(dict.fromkeys(part.condition)) if "condition" in part else []
            paint(part, axes, {c: COLOURS[i % len(COLOURS)] for i, c in enumerate(names)})
            axes.set_title(title, fontsize=10)
        picture = io.BytesIO()
        drawn.savefig(picture, format="svg", metadata={"Date": None})
        plt.close(drawn)
    return picture.getvalue()


def _say_that_nothing_is_there(axes: Any) -> None:
    axes.axis("off")
    axes.text(0.5, 0.5, "Nothing to draw yet: its runs are missing", ha="center", va="center")


def panels(numbers: Statistics, frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Title and rows of each panel: all, or one panel for each team where there are more conditions
    than colours; and one for each value of a column `panel`.
    """
    conditions = numbers.conditions if isinstance(numbers, TrainingStatistics) else {}
    crowded = "condition" in frame and len(conditions) > len(COLOURS)
    team = (
        frame.condition.map({label: condition.team for label, condition in conditions.items()})
        if crowded
        else pd.Series("", frame.index)
    )
    panel = frame.panel if "panel" in frame else pd.Series("", frame.index)
    return [(str(title), rows) for (title, _), rows in frame.groupby([team, panel], sort=False)]


def _height(part: pd.DataFrame) -> float:
    """Inches for a panel: for a line over updates or tokens always the same, else enough for a line
    of text for each condition or agent.
    """
    if "condition" not in part or {"step", "tokens", "generated_tokens", "temperature", "k"} & set(
        part
    ):
        return 2.8
    return max(
        1.4,
        1.0 + 0.27 * len(part[[c for c in ("condition", "agent") if c in part]].drop_duplicates()),
    )
