"""The mean of the group as baseline.

    A_i = c_i - mean_g(c)

Source: CCPO and SEPO scripts, arXiv 2603.21563v2; Dr. GRPO, arXiv 2503.20783.
Remembers nothing, compares inside a group, divides by nothing.
"""

import numpy as np

from ccpo.advantage import Messages, centred

VERSION = 1
COMPARES = "group"


def advantage(messages: Messages) -> np.ndarray:
    """Credit less its group's mean [M]."""
    return centred(messages.credit, messages.group)
