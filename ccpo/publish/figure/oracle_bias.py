"""Bias of the advantages by method."""

from __future__ import annotations

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._oracle import DRAWN, named, painter
from ccpo.publish.statistics import OracleStatistics

KIND = "oracle"
ORDER = 4
CAPTION = (
    "Root mean square over contexts and messages of E[advantage] / scale - A*, summed over all "
    "trees: mean and interval over "
    "worlds. 0 is an unbiased estimate of A*; more may still give an unbiased gradient."
)


def applies(contents: Contents) -> bool:
    """Always."""
    return True


def collect(numbers: OracleStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    return pd.DataFrame(
        [
            {**named(cell), **dict(cell.bias)}
            for cell in numbers.cells
            if cell.family == "all" and cell.advantage in DRAWN
        ]
    )


paint = painter(
    "Bias as an estimate of A*", "root mean square, in units of the outcome", False, 0.0
)
