"""No baseline: the credit itself.

    A_i = c_i

Source: REINFORCE (Williams 1992) without a baseline; with the outcome as credit, the control of
every experiment. Remembers nothing, compares with nothing, divides by nothing.
"""

import numpy as np

from ccpo.advantage import Messages

VERSION = 1
COMPARES = "nothing"


def advantage(messages: Messages) -> np.ndarray:
    """The credit [M]."""
    return np.where(messages.trained, messages.credit, 0.0)
