"""A critic's estimate as baseline: generalised advantage estimation where each message ends its
author's own episode.

    A_i = c_i - V_i

Source: arXiv 1506.02438, equation 16. With one macro-step a message neither gamma nor lambda is
left; over several messages of one shared episode the sum is the credit `mappo`. So CCPO's PPO
script, with one critic for all roles. Remembers nothing (the critic learns), compares with the
critic, divides by nothing.
"""

import numpy as np

from ccpo.advantage import Messages

VERSION = 1
COMPARES = "critic"


def advantage(messages: Messages) -> np.ndarray:
    """Credit less the critic's value [M] of the message's context.

    Raises:
        ValueError: a message that is trained has no value.
    """
    used = messages.trained
    value = messages.value
    if np.isnan(value[used]).any():
        raise ValueError(
            f"advantage gae: message {int(np.flatnonzero(used & np.isnan(value))[0])} has no "
            "value of a critic"
        )
    return np.where(used, messages.credit - np.where(used, value, 0.0), 0.0)
