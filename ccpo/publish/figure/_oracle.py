"""What the figures of oracle experiments have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from ccpo.publish.statistics import Cell, Interval, OracleStatistics

COLOURS = {
    "none": "#000000",
    "group_mean": "#0072B2",
    "group_z": "#D55E00",
    "batch_whiten": "#009E73",
    "gae": "#CC79A7",
    "leave_one_out": "#E69F00",
    "history": "#56B4E9",
}  # Okabe and Ito
FAMILIES = {
    "necessity": "#0072B2",
    "redundancy": "#009E73",
    "free_riding": "#E69F00",
    "sabotage": "#D55E00",
}
# What is drawn: leave_one_out is group_mean up to a factor, history is batch_whiten with older
# statistics; both are in the table.
DRAWN = ("none", "group_mean", "group_z", "batch_whiten", "gae")


def ratios(
    of: Callable[[Cell], Interval | None],
) -> Callable[[OracleStatistics], pd.DataFrame]:
    """Collects a ratio to the reference over all families, under the advantages that are drawn."""

    def collect(numbers: OracleStatistics) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {**named(cell), **dict(ratio)}
                for cell in numbers.cells
                if cell.family == "all"
                and cell.advantage in DRAWN
                and (ratio := of(cell)) is not None
            ]
        )

    return collect


def named(cell: Cell) -> dict[str, str]:
    """What a row of a figure is told apart by."""
    return {"shape": cell.shape, "method": cell.method, "advantage": cell.advantage}


def painter(
    title: str, x: str, log: bool, middle: float | None, by: str = "advantage"
) -> Callable[[pd.DataFrame, Any, dict[str, str]], None]:
    """A dot with its interval for each method (rows, by shape of world) and advantage, or family
    (colours).
    """
    palette: dict[str, str] = COLOURS if by == "advantage" else FAMILIES

    def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
        rows = list(dict.fromkeys(zip(frame["shape"], frame["method"], strict=True)))
        axes.figure.set_size_inches(6.6, 1.5 + 0.3 * len(rows))
        drawn = [
            name for name in (DRAWN if by == "advantage" else FAMILIES) if name in set(frame[by])
        ]
        for k, name in enumerate(drawn):
            dots = frame[frame[by] == name]
            y = [
                rows.index(pair) + 0.13 * (k - (len(drawn) - 1) / 2)
                for pair in zip(dots["shape"], dots["method"], strict=True)
            ]
            low = (dots["mean"] - dots.ci_low).clip(lower=0)
            high = (dots.ci_high - dots["mean"]).clip(lower=0)
            axes.errorbar(
                dots["mean"],
                y,
                xerr=[low, high],
                fmt="o",
                ms=4,
                lw=1.2,
                color=palette[name],
                label=name,
            )
        axes.set_yticks(range(len(rows)), [f"{shape}  {method}" for shape, method in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        for i in range(1, len(rows)):
            if rows[i][0] != rows[i - 1][0]:
                axes.axhline(i - 0.5, color="#555555", lw=0.9)
        if middle is not None:
            axes.axvline(middle, color="#555555", lw=0.9)
        if log:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(x)
        axes.figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
        axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5)

    return paint
