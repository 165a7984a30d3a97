"""From credit to advantage: baselines and normalisation inside groups. Pure numpy; group -1 marks messages that are not trained.

`role_information` measures what a credit method adds to the shared reward once the optimiser's baseline is taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

EPS = 1e-8


def _sums(values: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group index, sums and counts of the messages in groups; `values` [K] are those of group >= 0."""
    n = int(group.max(initial=-1)) + 1
    return group, np.bincount(group, values, n), np.bincount(group, minlength=n)


def none(credit: np.ndarray, group: np.ndarray, tokens: np.ndarray | None = None) -> np.ndarray:
    """The credit itself. Shapes [M], [M], [M] (generated tokens of each message) -> [M], as for every function here."""
    return np.where(group >= 0, credit, 0.0)


def group_mean(credit: np.ndarray, group: np.ndarray, tokens: np.ndarray | None = None) -> np.ndarray:
    """A_i = c_i - mean_g(c) (CCPO and SEPO scripts, arXiv 2603.21563v2; Dr. GRPO, arXiv 2503.20783)."""
    out, used = np.zeros(len(credit)), group >= 0
    g, total, count = _sums(credit[used], group[used])
    out[used] = credit[used] - (total / np.maximum(count, 1))[g]
    return out


def group_z(
    credit: np.ndarray,
    group: np.ndarray,
    tokens: np.ndarray | None = None,
    *,
    ddof: Literal[0, 1] = 0,
    eps: float = 1e-8,
    eps_inside: bool = False,
) -> np.ndarray:
    """A_i = (c_i - mean_g(c)) / (std_g(c) + eps), or / sqrt(var_g(c) + eps) if `eps_inside` (GRPO, arXiv 2402.03300, section 4.1.2).

    Papers differ where it looks harmless: ddof 0 is the population form, with eps 1e-8 inside the root that of C3 and MAGRPO
    (arXiv 2603.06859, official code); ddof 1 and eps 1e-6 outside is CCPO v1's and verl's. A group of one gets 0.
    """
    centred = group_mean(credit, group)
    used = group >= 0
    g, total, count = _sums(centred[used] ** 2, group[used])
    variance = (total / np.maximum(count - ddof, 1))[g]
    out = np.zeros(len(credit))
    out[used] = centred[used] / (np.sqrt(variance + eps) if eps_inside else np.sqrt(variance) + eps)
    return out


def leave_one_out(credit: np.ndarray, group: np.ndarray, tokens: np.ndarray | None = None) -> np.ndarray:
    """A_i = c_i - mean of the others of its group (RLOO, arXiv 2402.14740); 0 in a group of one."""
    out, used = np.zeros(len(credit)), group >= 0
    g, total, count = _sums(credit[used], group[used])
    n = count[g]
    out[used] = np.where(n > 1, credit[used] - (total[g] - credit[used]) / np.maximum(n - 1, 1), 0.0)
    return out


def batch_whiten(credit: np.ndarray, group: np.ndarray, tokens: np.ndarray, *, unit: Literal["token", "message"] = "token") -> np.ndarray:
    """A_i = (c_i - mean) / sqrt(var + 1e-8) over all tokens of the batch, each with its message's credit (REINFORCE++, arXiv 2501.03262).

    The variance is the unbiased one over tokens, as verl's. unit "message" counts each message once (MAPPO as C3's baseline, arXiv
    2603.06859, "global normalisation"). No group is compared: what a task's difficulty does to the credit stays.
    """
    out, used = np.zeros(len(credit)), group >= 0
    c = credit[used]
    weight = tokens[used].astype(float) if unit == "token" else np.ones(len(c))
    n = weight.sum()
    if n < 2:
        return out
    mean = weight @ c / n
    variance = weight @ (c - mean) ** 2 / (n - 1)
    out[used] = (c - mean) / np.sqrt(variance + EPS)
    return out


def history(
    credit: np.ndarray,
    group: np.ndarray,
    tokens: np.ndarray | None = None,
    *,
    memory: Mapping[str, float],
    decay: float = 0.99,
    eps: float = 1e-6,
) -> np.ndarray:
    """A_i = (c_i - mu) / (sigma + eps) with the moving mean and variance of earlier batches, sigma = sqrt(V) if V > eps else 1.

    `memory` is what `remember` gave so far; empty: the credit itself, as in the first update of CCPO v1 (arXiv 2603.21563v1, equations 2
    to 4), which calibrates rewards so *before* a group z-score. Here it stands alone, where it is not cancelled by one.
    """
    if not memory:
        return none(credit, group, tokens)
    sigma = memory["variance"] ** 0.5 if memory["variance"] > eps else 1.0
    return np.where(group >= 0, (credit - memory["mean"]) / (sigma + eps), 0.0)


def remember(credit: np.ndarray, group: np.ndarray, memory: Mapping[str, float], *, decay: float = 0.99) -> dict[str, float]:
    """Moving statistics for `history` once this batch is seen: mu <- d mu + (1 - d) m, V <- d V + (1 - d) v; at first m and v."""
    seen, keep = credit[group >= 0], decay if memory else 0.0
    now = {"mean": float(seen.mean()), "variance": float(seen.var())} if len(seen) else dict(memory)
    return {name: keep * memory.get(name, 0.0) + (1 - keep) * value for name, value in now.items()}


def gae(credit: np.ndarray, group: np.ndarray, tokens: np.ndarray | None = None, *, value: np.ndarray) -> np.ndarray:
    """A_i = c_i - V_i: generalised advantage estimation (arXiv 1506.02438, equation 16) where each message ends its author's own episode.

    `value` [M] is a critic's estimate of the credit from the message's context. With one macro-step a message neither gamma nor lambda
    is left; over several messages of one shared episode the sum is the credit `mappo`. So CCPO's PPO script, with one critic for all roles.

    Raises:
        ValueError: a message that is trained has no value.
    """
    used = group >= 0
    if np.isnan(value[used]).any():
        raise ValueError(f"advantage gae: message {int(np.flatnonzero(used & np.isnan(value))[0])} has no value of a critic")
    return np.where(used, credit - np.where(used, value, 0.0), 0.0)


ADVANTAGES: dict[str, Callable[..., np.ndarray]] = {
    f.__name__: f for f in (none, group_mean, group_z, leave_one_out, batch_whiten, history, gae)
}


def role_information(advantage: np.ndarray, shared: np.ndarray, group: np.ndarray) -> float:
    """Share of the advantage's variance inside groups that no affine image of the shared advantage explains, in [0, 1].

    For each group the best a * shared + b is taken out; what is left is summed over groups and divided by the whole. 0 means that the
    method teaches exactly what the shared reward teaches, up to a weight for each group. 0 also where the advantage is 0 throughout.
    """
    used = group >= 0
    x, y, g = group_mean(shared, group)[used], group_mean(advantage, group)[used], group[used]
    n = int(g.max(initial=-1)) + 1
    xx, xy, yy = np.bincount(g, x * x, n), np.bincount(g, x * y, n), np.bincount(g, y * y, n)
    slope = np.where(xx > 1e-24, xy / np.maximum(xx, 1e-300), 0.0)
    left = ((y - slope[g] * x) ** 2).sum()
    whole = yy.sum()
    return float(left / whole) if whole > 1e-24 else 0.0
