"""What the figures of oracle experiments have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

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


def ratios(name: str) -> Callable[[dict[str, Any]], pd.DataFrame]:
    def collect(numbers: dict[str, Any]) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {**{k: c[k] for k in ("shape", "method", "advantage")}, **c[f"{name}_ratio"]}
                for c in numbers["cells"]
                if c["family"] == "all" and c[f"{name}_ratio"] and c["advantage"] in DRAWN
            ]
        )

    return collect


def painter(
    title: str, x: str, log: bool, middle: float | None, by: str = "advantage"
) -> Callable[[pd.DataFrame, Any, dict[str, str]], None]:
    """A dot with its interval for each method (rows, by shape of world) and advantage, or family
    (colours).
    """
    colours: dict[str, str] = COLOURS if by == "advantage" else FAMILIES

    def paint(frame: pd.DataFrame, axes: Any, _: dict[str, str]) -> None:
        rows = list(dict.fromkeys(zip(frame["shape"], frame["method"], strict=True)))
        axes.figure.set_size_inches(6.6, 1.5 + 0.3 * len(rows))
        drawn = [
            name for name in (DRAWN if by == "advantage" else FAMILIES) if name in set(frame[by])
        ]
        for k, name in enumerate(drawn):
            here = frame[frame[by] == name]
            y = [
                rows.index(pair) + 0.13 * (k - (len(drawn) - 1) / 2)
                for pair in zip(here["shape"], here["method"], strict=True)
            ]
            low = (here["mean"] - here.ci_low).clip(lower=0)
            high = (here.ci_high - here["mean"]).clip(lower=0)
            axes.errorbar(
                here["mean"],
                y,
                xerr=[low, high],
                fmt="o",
                ms=4,
                lw=1.2,
                color=colours[name],
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
