"""What each agent of a team contributes."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo import intervention
from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import COLOURS, bounds, ends, labels, legend
from ccpo.publish.statistics import TrainingStatistics

KIND = "training"
ORDER = 4
CAPTION = (
    "The trained team minus the team with a change to one agent, paired by task and sample. Right "
    "of 0 the agent contributes; of an agent alone, at 0 it needs nobody."
)
MARKERS = "oDvsP^X*"


def applies(contents: Contents) -> bool:
    """Where an intervention changes one agent."""
    return any(intervention.parse(kind)[1] != intervention.ALL for kind in contents.interventions)


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    return pd.DataFrame(
        [
            {
                "condition": label,
                "agent": row.agent,
                "role": condition.panel.roles[row.agent],
                "intervention": intervention.parse(row.intervention)[0],
                **bounds(row),
                "n": row.n,
            }
            for label, condition in numbers.conditions.items()
            if condition.panel
            for row in condition.panel.contributions
        ]
    )


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    rows = list(dict.fromkeys(zip(frame.condition, frame.agent, frame.role, strict=True)))
    rows.sort(key=lambda row: (list(dict.fromkeys(frame.condition)).index(row[0]), row[1]))
    kinds = list(dict.fromkeys(frame.intervention))
    for i, kind in enumerate(kinds):
        drawn = frame[frame.intervention == kind]
        shift = 0.66 / len(kinds) * (i - (len(kinds) - 1) / 2)
        places = zip(drawn.condition, drawn.agent, drawn.role, strict=True)
        axes.errorbar(
            drawn["mean"] * 100,
            [rows.index(place) + shift for place in places],
            xerr=ends(drawn, 100),
            fmt=MARKERS[i % len(MARKERS)],
            ms=4,
            color=COLOURS[i % len(COLOURS)],
            capsize=2,
            lw=1.2,
            label=intervention.load(kind).LABEL,
        )
    axes.axvline(0, color="#888888", lw=1)
    axes.set_yticks(range(len(rows)), [f"{c}, {a} {role}" for c, a, role in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    labels(axes, "What each agent contributes", "team minus changed team, points", "")
    legend(axes)
