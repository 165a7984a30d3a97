"""Fidelity, variance and influence of credit on trained runs."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import COLOURS, ends, labels, legend
from ccpo.publish.probe_statistics import ProbeRow, Probes
from ccpo.publish.statistics import TrainingStatistics

KIND = "training"
ORDER = 7
CAPTION = (
    "Credit measured on the runs at the last share of the training that was probed. Filled: "
    "estimate and target from separate samples; fidelity is the correlation with the exact "
    "advantage, 1 at most. Open: the same messages under C3's published definitions, whose "
    "variance is 0 wherever a context has one outcome only: beside it the share of contexts with "
    "several. Grey bar: what shuffled messages stay below in 95 of 100 cases. "
    "Where nothing follows a message there is no influence; where the target has no spread that "
    "could be told from noise there is no fidelity."
)
PANELS = {
    "fidelity": "fidelity of credit",
    "mixed": "variance of credit inside a context (open), contexts with mixed outcomes (filled)",
    "influence": "influence of the message on the team's answer, nats",
}
PUBLISHED = {
    "fidelity": "published fidelity, all_candidates",
    "mixed": "published variance, ddof 0",
    "influence": "published influence, texts",
}
FLOORS = {"fidelity": "floor", "influence": "influence floor"}
WHOLE = "the message"


def applies(contents: Contents) -> bool:
    """Where an experiment asks for probes."""
    return contents.probed


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    if numbers.probes is None:
        return pd.DataFrame()
    rows = []
    for quantity, panel in PANELS.items():
        kinds = {
            "ours": quantity,
            "published": PUBLISHED.get(quantity),
            "floor": FLOORS.get(quantity),
        }
        for kind, name in kinds.items():
            rows += [
                {"panel": panel, "kind": kind, **row}
                for row in _last(numbers.probes, name or "")
                if row["method"] != "c3, all replays" or kind == "ours"
            ]
    frame = pd.DataFrame(rows)
    if not frame.empty:  # one colour for a method in every panel
        frame["colour"] = frame.method.map({m: i for i, m in enumerate(frame.method.unique())})
    return frame


def _last(probes: Probes, quantity: str) -> list[dict[str, object]]:
    """The rows of a quantity at the last share of each condition."""
    of = probes.of(quantity)
    last = {row.condition: max(r.at for r in of if r.condition == row.condition) for row in of}
    return [
        {
            "condition": row.condition,
            "at": row.at,
            "turn": row.turn,
            "agent": row.agent,
            "method": row.method or WHOLE,
            **bounds_of(row),
        }
        for row in of
        if row.at == last[row.condition]
    ]


def bounds_of(row: ProbeRow) -> dict[str, float | None]:
    """Mean and ends of the interval."""
    return {"mean": row.mean, "ci_low": row.ci_low, "ci_high": row.ci_high}


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel: a row for each condition and turn, a colour for each method."""
    places = list(dict.fromkeys(zip(frame.condition, frame.turn, frame.agent, strict=True)))
    methods = [m for m in dict.fromkeys(frame.method) if m != WHOLE]
    for (condition, turn, agent), rows in frame.groupby(["condition", "turn", "agent"], sort=False):
        y = places.index((condition, turn, agent))
        floor = rows[rows.kind == "floor"]["mean"]
        if len(floor):
            axes.barh(y, float(floor.max()), height=0.8, color="#dddddd", zorder=0)
    shown = [*methods, *([WHOLE] if WHOLE in set(frame.method) else [])]
    for i, method in enumerate(shown):
        own = frame[frame.method == method]
        shift = 0.7 * ((i + 0.5) / len(shown) - 0.5)
        for kind, face in (("ours", None), ("published", "none")):
            drawn = own[own.kind == kind]
            if drawn.empty:
                continue
            keys = zip(drawn.condition, drawn.turn, drawn.agent, strict=True)
            axes.errorbar(
                drawn["mean"],
                [places.index(key) + shift for key in keys],
                xerr=ends(drawn),
                fmt="o" if kind == "ours" else "D",
                ms=3.5,
                color=COLOURS[int(drawn.colour.iloc[0]) % len(COLOURS)],
                markerfacecolor=face,
                elinewidth=1,
                label=method if kind == "ours" else f"{method}, as published",
            )
    axes.set_yticks(range(len(places)), [f"{c}, agent {a}" for c, _, a in places])
    axes.set_ylim(len(places) - 0.5, -0.5)
    labels(axes, "Credit measured on the runs, by method", "", "")
    axes.set_xlabel(frame.panel.iloc[0])  # the panels share an axis, and not what it shows
    axes.tick_params(labelbottom=True)
    axes.set_xlim(0, max(1.02, *axes.get_xlim()))
    legend(axes)
