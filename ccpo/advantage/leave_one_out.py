"""The mean of the others as baseline.

    A_i = c_i - mean of the other messages of its group

Source: RLOO, arXiv 2402.14740.
Remembers nothing, compares inside a group, divides by nothing. A group of one gets 0.
"""

import numpy as np

from ccpo.advantage import Messages, sums

VERSION = 1
COMPARES = "group"


def advantage(messages: Messages) -> np.ndarray:
    """Credit less the mean of the others [M]."""
    out = np.zeros(len(messages.credit))
    used = messages.trained
    credit = messages.credit[used]
    g = messages.group[used]
    total, count = sums(credit, g)
    n = count[g]
    out[used] = np.where(n > 1, credit - (total[g] - credit) / np.maximum(n - 1, 1), 0.0)
    return out
