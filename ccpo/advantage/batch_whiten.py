"""The z-score of the whole batch.

    A_i = (c_i - mean) / sqrt(var + 1e-8)      over all tokens of the batch, each with its message's
        credit

Source: REINFORCE++, arXiv 2501.03262; the variance is the unbiased one over tokens, as verl's. Unit
"message" counts each message once: MAPPO as C3's baseline, arXiv 2603.06859, "global
normalisation". Remembers nothing, compares with the batch (what a task's difficulty does to the
credit stays), divides by the batch's spread.
"""

from typing import Literal

import numpy as np

from ccpo.advantage import Messages

VERSION = 1
COMPARES = "batch"
EPS = 1e-8


def advantage(messages: Messages, *, unit: Literal["token", "message"] = "token") -> np.ndarray:
    """The z-score [M]; 0 for fewer than two units."""
    out = np.zeros(len(messages.credit))
    used = messages.trained
    credit = messages.credit[used]
    weight = messages.tokens[used].astype(float) if unit == "token" else np.ones(len(credit))
    n = weight.sum()
    if n < 2:
        return out
    mean = weight @ credit / n
    variance = weight @ (credit - mean) ** 2 / (n - 1)
    out[used] = (credit - mean) / np.sqrt(variance + EPS)
    return out
