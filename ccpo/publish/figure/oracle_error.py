"""Error of the advantages by method at equal tokens."""

from __future__ import annotations

from ccpo.publish.figure import Study
from ccpo.publish.figure._oracle import painter, ratios

KIND = "oracle"
ORDER = 3
CAPTION = (
    "Mean squared error of the advantages against A* at equal generated tokens, over that "
    "of the shared reward under group_mean: as above."
)


def applies(study: Study) -> bool:
    """Always."""
    return True


collect = ratios("mse_tokens")
paint = painter("Advantage error at equal tokens", "times that of shared, group_mean", True, 1.0)
