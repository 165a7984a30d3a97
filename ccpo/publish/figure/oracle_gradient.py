"""Gradient error by method at equal tokens."""

from __future__ import annotations

from ccpo.publish.figure import Contents
from ccpo.publish.figure._oracle import painter, ratios

KIND = "oracle"
ORDER = 1
CAPTION = (
    "Squared error of a task's gradient estimate against the exact gradient, at equal generated "
    "tokens, over that of the shared "
    "reward under group_mean in the same world: geometric mean and 95 % t-interval over worlds. "
    "Left of 1 is better. A method's "
    "constant scale is taken out."
)


def applies(contents: Contents) -> bool:
    """Always."""
    return True


collect = ratios(lambda cell: cell.noise_tokens_ratio)
paint = painter("Gradient error at equal tokens", "times that of shared, group_mean", True, 1.0)
