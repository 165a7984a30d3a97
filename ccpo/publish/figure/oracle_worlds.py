"""Gradient error by family of worlds."""

from __future__ import annotations

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._oracle import named, painter
from ccpo.publish.statistics import OracleStatistics

KIND = "oracle"
ORDER = 2
CAPTION = (
    "As the first figure, by family of worlds; each method under group_mean, those with a "
    "baseline of their own (c3, mappo) under none."
)


def applies(contents: Contents) -> bool:
    """Always."""
    return True


def collect(numbers: OracleStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    return pd.DataFrame(
        [
            {"family": cell.family, **named(cell), **dict(cell.noise_tokens_ratio)}
            for cell in numbers.cells
            if cell.family != "all"
            and cell.noise_tokens_ratio is not None
            and cell.advantage
            == ("none" if cell.method.startswith(("c3", "mappo")) else "group_mean")
        ]
    )


paint = painter(
    "Gradient error at equal tokens, by family",
    "times that of shared, group_mean",
    True,
    1.0,
    "family",
)
