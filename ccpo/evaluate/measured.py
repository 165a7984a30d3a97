"""The metrics of a condition's answers: avg@k, pass@k and majority@k with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ccpo.evaluate import metrics
from ccpo.evaluate.condition import Runs
from ccpo.evaluate.levels import levels, replicated
from ccpo.evaluate.marks import Marks
from ccpo.publish.metric_statistics import ByPlayed, Levels, Metrics
from ccpo.publish.statistics import FACTUAL, UNTRAINED


def measured(of: Runs) -> ByPlayed:
    """By benchmark, decoding and intervention, of the team as it is and untrained."""
    out: ByPlayed = {}
    for played in next(iter(of.marks.values())):
        if played.intervention in (FACTUAL, UNTRAINED):
            by_seed = {seed: of_seed[played] for seed, of_seed in of.marks.items()}
            kinds = out.setdefault(played.benchmark, {}).setdefault(played.decoding, {})
            kinds[played.intervention] = of_marks(by_seed, of.bases)
    return out


def of_marks(by_seed: Mapping[int, Marks], bases: Mapping[int, str]) -> Metrics:
    """The metrics of marks by seed, of the same tasks and as many samples."""
    values = {seed: marks.values for seed, marks in by_seed.items()}
    ballots = {s: marks.ballots for s, marks in by_seed.items() if marks.ballots is not None}
    n_tasks, n_samples = next(iter(values.values())).shape
    return Metrics(
        samples=n_samples,
        tasks=n_tasks,
        replicates=len(replicated(values, bases)),
        average=levels(values, bases),
        pass_at=_by_k(metrics.pass_at, values, bases),
        majority_at=_by_k(metrics.majority_at, ballots, bases) if ballots else {},
    )


def _by_k(
    metric: Callable[[np.ndarray], np.ndarray],
    of_seeds: Mapping[int, np.ndarray],
    bases: Mapping[int, str],
) -> dict[int, Levels]:
    """A metric's levels for each number of answers."""
    every = {seed: metric(answers) for seed, answers in of_seeds.items()}  # [tasks, k]
    largest = next(iter(every.values())).shape[1]
    return {
        k: levels({seed: chances[:, k - 1 : k] for seed, chances in every.items()}, bases)
        for k in range(1, largest + 1)
    }
