"""Error of the advantages by method at equal tokens."""

from __future__ import annotations

from ccpo.publish.figure import Contents
from ccpo.publish.figure._oracle import painter, ratios

KIND = "oracle"
ORDER = 3
CAPTION = (
    "Mean squared error of the advantages against A* at equal generated tokens, over that "
    "of the shared reward under group_mean: as above."
)


def applies(contents: Contents) -> bool:
    """Always."""
    return True


collect = ratios(lambda cell: cell.mse_tokens_ratio)
paint = painter("Advantage error at equal tokens", "times that of shared, group_mean", True, 1.0)
