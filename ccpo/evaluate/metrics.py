"""What several answers to one task are worth: avg@k, pass@k, majority@k. Pure numpy.

Each is an expectation over the k-subsets of the answers that were drawn, exact, so that a smaller k
wastes none of them and no largest of many is taken for what k give. avg@k is the same for every k:
the mean.
"""

from __future__ import annotations

import functools
import math

import numpy as np

RIGHT = 0  # classes of answers, as verifier.ballots numbers them
NO_ANSWER = -1


def pass_at(marks: np.ndarray) -> np.ndarray:
    """Chance [tasks, samples] that one at least of k answers is right; column k - 1 is k's.

    marks: [tasks, samples] from 0 to 1. Of n answers of which c are right it is
    1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, equation 1). A mark between is the
    chance of being right (a vote that a tie decides by lot): then it is 1 minus the mean over all
    k-subsets of the chance that all are wrong.
    """
    n_tasks, n = marks.shape
    # by number of members, the sum over subsets of the chance that all are wrong
    all_wrong = np.zeros((n_tasks, n + 1))
    all_wrong[:, 0] = 1.0
    for wrong in (1.0 - marks).T:
        all_wrong[:, 1:] += wrong[:, None] * all_wrong[:, :-1]
    subsets = np.array([math.comb(n, k) for k in range(1, n + 1)], float)
    return np.clip(1.0 - all_wrong[:, 1:] / subsets, 0.0, 1.0)


def majority_at(ballots: np.ndarray) -> np.ndarray:
    """Chance [tasks, samples] that the most frequent of k answers is right; column k - 1 is k's.

    ballots: [tasks, samples] classes of answers within a task, RIGHT, NO_ANSWER (which is no vote),
    or a number for each wrong one. A tie is decided by lot among the tied answers; where nobody
    answers it is wrong (as `vote_outcome` of ccpo/team with tie uniform).
    """
    return np.array([_majority(*_counts(row)) for row in ballots]).reshape(ballots.shape)


def _counts(row: np.ndarray) -> tuple[int, int, tuple[int, ...]]:
    """How many answers are right and how many are none, and the sizes of the wrong classes."""
    answers, sizes = np.unique(row, return_counts=True)
    of_class = dict(zip(answers.tolist(), sizes.tolist(), strict=True))
    right = of_class.pop(RIGHT, 0)
    absent = of_class.pop(NO_ANSWER, 0)
    return right, absent, tuple(sorted(of_class.values()))


@functools.lru_cache(maxsize=1 << 16)
def _majority(right: int, absent: int, wrong: tuple[int, ...]) -> tuple[float, ...]:
    """For k from 1 on. Where j right ones are among the k and s wrong classes have j members too,
    and none more, the chance is 1 / (s + 1) = the integral over u in [0, 1] of u^s: so subsets are
    counted by one polynomial for each class, whose term of j members has the weight u, and the
    integral of their product is a finite sum (Gauss and Legendre; its degree is that of u).
    """
    n = right + absent + sum(wrong)
    nodes, weights = np.polynomial.legendre.leggauss(len(wrong) // 2 + 1)
    chance = np.zeros(n + 1)
    for j in range(1, right + 1):
        for u, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            ways = np.array([math.comb(absent, x) for x in range(absent + 1)], float)
            for size in wrong:
                most = min(j, size)
                of_class = [math.comb(size, x) * (u if x == j else 1.0) for x in range(most + 1)]
                ways = np.convolve(ways, of_class)
            chance[j : j + len(ways)] += math.comb(right, j) * weight * ways
    subsets = np.array([math.comb(n, k) for k in range(1, n + 1)], float)
    return tuple(np.clip(chance[1:] / subsets, 0.0, 1.0).tolist())
