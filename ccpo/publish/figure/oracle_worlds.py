"""Gradient error by family of worlds."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ccpo.publish.figure import Study
from ccpo.publish.figure._oracle import painter

KIND = "oracle"
ORDER = 2
CAPTION = (
    "As the first figure, by family of worlds; each method under group_mean, those with a "
    "baseline of their own (c3, mappo) under none."
)


def applies(study: Study) -> bool:
    """Always."""
    return True


def collect(numbers: dict[str, Any]) -> pd.DataFrame:
    """The plotted numbers."""
    return pd.DataFrame(
        [
            {
                **{k: c[k] for k in ("family", "shape", "method", "advantage")},
                **c["noise_tokens_ratio"],
            }
            for c in numbers["cells"]
            if c["family"] != "all"
            and c["noise_tokens_ratio"]
            and c["advantage"]
            == ("none" if c["method"].startswith(("c3", "mappo")) else "group_mean")
        ]
    )


paint = painter(
    "Gradient error at equal tokens, by family",
    "times that of shared, group_mean",
    True,
    1.0,
    "family",
)
