"""Accuracy by the tokens that training generated."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Study
from ccpo.publish.figure._axes import half, labels, legend, primary

KIND = "training"
ORDER = 6
CAPTION = "Every token that training generated counts, counterfactual episodes included."


def applies(study: Study) -> bool:
    """Where something is trained."""
    return study.trained


def collect(numbers: dict[str, Any]) -> pd.DataFrame:
    """The plotted numbers."""
    rows = []
    for c, v in numbers["conditions"].items():
        found = primary(v)["factual"]
        rows.append(
            {
                "condition": c,
                "generated_tokens": v["ledger"]["generated_tokens"],
                **{k: found[k] for k in ("mean", "ci_low", "ci_high")},
            }
        )
    return pd.DataFrame(rows)


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel."""
    for i, row in frame.iterrows():
        one = frame.loc[[i]]
        axes.errorbar(
            one.generated_tokens / 1000,
            one["mean"] * 100,
            yerr=half(one) * 100,
            fmt="o",
            ms=7,
            capsize=3,
            color=colours[row.condition],
            label=row.condition,
        )
    axes.set_xlim(0, frame.generated_tokens.max() / 1000 * 1.15 + 1e-9)
    labels(
        axes,
        "Accuracy against what training generated",
        "generated tokens, thousands",
        "accuracy on test tasks, %",
    )
    legend(axes)
