"""Dr. GRPO: as grpo, divided by a constant instead of the messages' lengths.

    L = -sum_t min(rho_t A, clip(rho_t, 1 - low, 1 + high) A) / (messages x longest allowed message)

Source: arXiv 2503.20783.
"""

from collections.abc import Sequence

from ccpo.objective.grpo import loss as loss

VERSION = 1
KL = "loss"


def divisor(lengths: Sequence[int], longest: int) -> int:
    """The number of messages times the longest allowed one, whatever their lengths."""
    return len(lengths) * longest
