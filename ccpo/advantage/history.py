"""The z-score against moving statistics of earlier batches.

    A_i = (c_i - mu) / (sigma + eps),   sigma = sqrt(V) if V > eps else 1
    mu <- d mu + (1 - d) m,   V <- d V + (1 - d) v        once a batch with mean m and variance v is
                              seen; at first m and v

Source: CCPO v1, arXiv 2603.21563v1, equations 2 to 4, which calibrates rewards so *before* a group
z-score. Here it stands alone, where it is not cancelled by one. The first batch gets its credit
itself. Remembers mean and variance, compares with the memory, divides by its spread.
"""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Lt

from ccpo.advantage import Messages

VERSION = 1
COMPARES = "memory"


def advantage(
    messages: Messages,
    memory: Mapping[str, float],
    *,
    decay: Annotated[float, Ge(0), Lt(1)] = 0.99,
    eps: Annotated[float, Gt(0)] = 1e-6,
) -> np.ndarray:
    """The z-score [M] by the memory from before this batch."""
    if not memory:
        return np.where(messages.trained, messages.credit, 0.0)
    sigma = memory["variance"] ** 0.5 if memory["variance"] > eps else 1.0
    return np.where(messages.trained, (messages.credit - memory["mean"]) / (sigma + eps), 0.0)


def remember(
    messages: Messages, memory: Mapping[str, float], *, decay: float = 0.99, eps: float = 1e-6
) -> dict[str, float]:
    """The moving statistics once this batch is seen."""
    seen = messages.credit[messages.trained]
    keep = decay if memory else 0.0
    now = {"mean": float(seen.mean()), "variance": float(seen.var())} if len(seen) else dict(memory)
    return {name: keep * memory.get(name, 0.0) + (1 - keep) * value for name, value in now.items()}
