"""The z-score of a group.

    A_i = (c_i - mean_g(c)) / (std_g(c) + eps),  or  / sqrt(var_g(c) + eps) if eps_inside

Source: GRPO, arXiv 2402.03300, section 4.1.2. Papers differ where it looks harmless: ddof 0 is the
population form, with eps 1e-8 inside the root that of C3 and MAGRPO (arXiv 2603.06859, official
code); ddof 1 and eps 1e-6 outside is CCPO v1's and verl's. Remembers nothing, compares inside a
group, divides by the group's spread. A group of one gets 0.
"""

from typing import Annotated, Literal

import numpy as np
from annotated_types import Gt

from ccpo.advantage import Messages, centred, sums

VERSION = 1
COMPARES = "group"


def advantage(
    messages: Messages,
    *,
    ddof: Literal[0, 1] = 0,
    eps: Annotated[float, Gt(0)] = 1e-8,
    eps_inside: bool = False,
) -> np.ndarray:
    """The z-score [M]; ddof: 0 population, 1 sample form of the standard deviation."""
    difference = centred(messages.credit, messages.group)
    used = messages.trained
    g = messages.group[used]
    total, count = sums(difference[used] ** 2, g)
    variance = (total / np.maximum(count - ddof, 1))[g]
    out = np.zeros(len(difference))
    out[used] = difference[used] / (
        np.sqrt(variance + eps) if eps_inside else np.sqrt(variance) + eps
    )
    return out
