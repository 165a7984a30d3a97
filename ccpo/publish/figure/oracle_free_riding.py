"""Advantage of agents who change nothing."""

from __future__ import annotations

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._oracle import DRAWN, painter
from ccpo.publish.statistics import OracleStatistics

KIND = "oracle"
ORDER = 5
CAPTION = (
    "Worlds in which only the last message matters: spread of the advantage of agents before it, "
    "over that of the last agent. "
    "Nothing of it can teach anything."
)


def applies(contents: Contents) -> bool:
    """Always."""
    return True


def collect(numbers: OracleStatistics) -> pd.DataFrame:
    """The plotted numbers."""
    return pd.DataFrame([dict(row) for row in numbers.free_riding if row.advantage in DRAWN])


paint = painter(
    "Advantage paid to agents who change nothing", "spread over the last agent's", False, 0.0
)
