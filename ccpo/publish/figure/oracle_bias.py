"""Bias of the advantages by method."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Study
from ccpo.publish.figure._oracle import DRAWN, painter

KIND = "oracle"
ORDER = 4
CAPTION = (
    "Root mean square over contexts and messages of E[advantage] / scale - A*, summed over all "
    "trees: mean and interval over "
    "worlds. 0 is an unbiased estimate of A*; more may still give an unbiased gradient."
)


def applies(study: Study) -> bool:
    """Always."""
    return True


def collect(numbers: dict[str, Any]) -> pd.DataFrame:
    """The plotted numbers."""
    return pd.DataFrame(
        [
            {**{k: c[k] for k in ("shape", "method", "advantage")}, **c["bias"]}
            for c in numbers["cells"]
            if c["family"] == "all" and c["advantage"] in DRAWN
        ]
    )


paint = painter(
    "Bias as an estimate of A*", "root mean square, in units of the outcome", False, 0.0
)
