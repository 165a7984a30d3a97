"""Reward and credit by agent."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Study
from ccpo.publish.figure._axes import COLOURS, half, labels, legend

KIND = "training"
ORDER = 5
CAPTION = "What the verifier paid for an agent's messages, and what the credit method made of it."


def applies(study: Study) -> bool:
    """Where something is trained."""
    return study.trained


def collect(numbers: dict[str, Any]) -> pd.DataFrame:
    """The plotted numbers."""
    return pd.DataFrame(
        [
            {"condition": c, **r}
            for c, v in numbers["conditions"].items()
            for r in v["agents"]
            if r["part"] == "last" and r["quantity"] != "leakage"
        ]
    )


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    rows = list(dict.fromkeys(zip(frame.condition, frame.agent, strict=True)))
    for i, (quantity, marker) in enumerate((("reward", "o"), ("credit", "D"))):
        some = frame[frame.quantity == quantity]
        y = [
            rows.index((c, a)) + 0.12 * (2 * i - 1)
            for c, a in zip(some.condition, some.agent, strict=True)
        ]
        axes.errorbar(
            some["mean"],
            y,
            xerr=half(some),
            fmt=marker,
            ms=6,
            color=COLOURS[i],
            capsize=3,
            label=quantity,
        )
    axes.set_yticks(range(len(rows)), [f"{c}, agent {a}" for c, a in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    labels(
        axes,
        "Reward and credit of an agent's messages, last fifth of training",
        "mean over messages",
        "",
    )
    legend(axes)
