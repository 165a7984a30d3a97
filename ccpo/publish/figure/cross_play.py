"""Mixed teams: how good an agent of one condition is in the company of another's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ccpo.publish.cross_statistics import CrossPlay
from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import bounds, labels
from ccpo.publish.statistics import TrainingStatistics

KIND = "training"
ORDER = 20
CAPTION = (
    "Accuracy (%) of teams whose agents come from different conditions, with 95 % intervals over "
    "seeds. Teams of two: rows say whose agent speaks first, columns whose answers; larger teams: "
    "the row's team as it is, and with one agent from another condition. Below and beside: what "
    "an agent from this condition adds to a team, against one from any (points)."
)
TEAM = "team as it is"
MEAN = "adds"


def applies(contents: Contents) -> bool:
    """Where cross-play is asked for."""
    return contents.crossed


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    rows = [row for play in numbers.cross for row in _rows(play)]
    return pd.DataFrame(rows)


def _rows(play: CrossPlay) -> Iterator[dict[str, Any]]:
    panel = {"panel": f"{play.team}: {', '.join(play.roles)}, answering {play.decoding}"}
    dyad = len(play.roles) == 2
    for cell in play.cells:
        for row, column in [cell.seats] if dyad else _places(cell.seats, play):
            named = {"row": row, "column": column, "shown": "accuracy"}
            yield {**panel, **named, **bounds(cell)}
    for marginal in play.marginals:
        place = (marginal.label, MEAN) if marginal.agent == 0 else (MEAN, marginal.label)
        if not dyad:
            place = (f"{marginal.label} {MEAN}", _seat(play.roles, marginal.agent))
        named = {"row": place[0], "column": place[1], "shown": "marginal"}
        yield {**panel, **named, **bounds(marginal)}


def _seat(roles: tuple[str, ...], agent: int) -> str:
    return f"agent {agent}" if len(set(roles)) < len(roles) else roles[agent]


def _places(seats: tuple[str, ...], play: CrossPlay) -> list[tuple[str, str]]:
    """Row and column of a team of which one agent at most is another's; a team as it is stands
    in front of all of its row.
    """
    own = max(seats, key=seats.count)
    for agent, label in enumerate(seats):
        if label != own:
            return [(f"{own} with {label}", _seat(play.roles, agent))]
    return [(f"{own} with {label}", TEAM) for label in play.labels if label != own]


def height(frame: pd.DataFrame) -> float:
    """Inches of a panel."""
    return 1.2 + 0.36 * frame["row"].nunique()


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    rows = list(dict.fromkeys(frame["row"]))
    columns = list(dict.fromkeys(frame["column"]))
    cells = frame[frame.shown == "accuracy"]
    low = cells["mean"].min()
    high = max(cells["mean"].max(), low + 1e-9)
    for cell in frame.itertuples():
        x = columns.index(cell.column)
        y = rows.index(cell.row)
        accuracy = cell.shown == "accuracy"
        shade = 0.08 + 0.5 * (cell.mean - low) / (high - low) if accuracy else 0.0
        corner = (x - 0.5, y - 0.5)
        axes.add_patch(_square(corner, shade))
        number = f"{100 * cell.mean:.1f}" if accuracy else f"{100 * cell.mean:+.1f}"
        axes.text(x, y - 0.14, number, ha="center", va="center", fontsize=8.5)
        if not pd.isna(cell.ci_low):
            sign = ".0f" if accuracy else "+.1f"
            span = f"{100 * cell.ci_low:{sign}} to {100 * cell.ci_high:{sign}}"
            axes.text(x, y + 0.24, span, ha="center", va="center", fontsize=6, color="#555555")
    axes.text(-0.5, -0.62, frame.panel.iloc[0], fontsize=9)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), columns, fontsize=8, rotation=25 * (len(columns) > 6))
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.tick_params(length=0, labelbottom=True)
    axes.grid(False)
    labels(axes, "Teams of agents from different conditions", "", "")


def _square(corner: tuple[float, float], shade: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, 1, 1, facecolor=("#0072B2", shade), edgecolor="#ffffff", lw=1.5)
