"""Intervals of a mean over training seeds and test tasks, by what would be drawn anew: other seeds,
other tasks, or both. Pure numpy and scipy.

Claims over seeds are made of stats.py alone; these say how far a level reaches.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

from ccpo.evaluate import stats as st
from ccpo.publish.metric_statistics import Bounds, Levels

# Of the residual's mean square, the share that is taken out of that of the seeds. All of it (the
# unbiased estimate) leaves three seeds whose spread is a few times the tasks' noise with intervals
# that are too short, since it is often below 0 by chance; benchmarks/levels.py shows the coverage.
TAKEN_OUT = 0.6


def levels(of_seeds: Mapping[int, np.ndarray], bases: Mapping[int, str]) -> Levels:
    """A mean and its intervals, ends inside [0, 1].

    of_seeds: for each seed [tasks, samples] from 0 to 1, of the same tasks.
    """
    means = {seed: float(values.mean()) for seed, values in of_seeds.items()}
    noise = st.Noise(st.item_noise(of_seeds, bases))
    over_seeds = st.interval(st.replicates(means, bases), noise, st.SHARE)
    grid = replicated({seed: values.mean(axis=1) for seed, values in of_seeds.items()}, bases)
    known = over_seeds.ci_low is not None and over_seeds.ci_high is not None
    return Levels(
        mean=float(grid.mean()),
        seeds=(over_seeds.ci_low, over_seeds.ci_high) if known else None,  # type: ignore[arg-type]
        items=over_items(grid),
        both=over_both(grid),
    )


def replicated(of_seeds: Mapping[int, np.ndarray], bases: Mapping[int, str]) -> np.ndarray:
    """[replicates, tasks]: means over the seeds of a base model, or the seeds' own where all share
    one (as `stats.replicates`).
    """
    grouped: dict[str, list[np.ndarray]] = {}
    for seed in sorted(of_seeds):
        grouped.setdefault(bases[seed], []).append(of_seeds[seed])
    if len(grouped) == 1:
        return np.stack([of_seeds[seed] for seed in sorted(of_seeds)])
    return np.stack([np.mean(rows, axis=0) for rows in grouped.values()])


def over_items(grid: np.ndarray) -> Bounds | None:
    """Interval of the mean of [replicates, tasks] over other tasks, the policies as they are: a
    t-interval over the tasks' means (each task is a cluster). None of one task.
    """
    n_tasks = grid.shape[1]
    if n_tasks < 2:
        return None
    error = np.sqrt(_of_tasks(grid))
    return _inside(float(grid.mean()), float(stats.t.ppf(0.975, n_tasks - 1) * error))


def _of_tasks(grid: np.ndarray) -> float:
    """Variance of the mean from drawing tasks anew. Where no task differs from another, so many
    (the rule of three) may in another draw, and no less is taken.
    """
    n_tasks = grid.shape[1]
    seen = float(grid.mean(axis=0).var(ddof=1)) / n_tasks
    return seen if seen > 0 else st.UNSEEN / n_tasks**2


def over_both(grid: np.ndarray) -> Bounds | None:
    """Interval of the mean of [replicates, tasks] over other replicates and other tasks. None of
    one replicate or one task.

    Crossed random effects by the method of moments: with the mean squares of replicates, tasks and
    residual, S, I, E, over n replicates and m tasks, the variance of the mean is (S + I - E) / nm.
    Its parts have different degrees of freedom, and each gets its own quantile (as modified large
    samples do, Burdick and Graybill 1992, section 3.3):
    half length^2 = (t(n-1)^2 max(S - a E, 0) + t(m-1)^2 max(I, E)) / nm, a = TAKEN_OUT.
    """
    n_replicates, n_tasks = grid.shape
    if n_replicates < 2 or n_tasks < 2:
        return None
    mean = float(grid.mean())
    rows = grid.mean(axis=1)
    columns = grid.mean(axis=0)
    rest = grid - rows[:, None] - columns + mean
    cells = n_replicates * n_tasks
    residual = float((rest**2).sum()) / ((n_replicates - 1) * (n_tasks - 1)) / cells
    of_replicates = float(rows.var(ddof=1)) / n_replicates
    of_tasks = max(_of_tasks(grid), residual)
    half = np.hypot(
        stats.t.ppf(0.975, n_replicates - 1)
        * np.sqrt(max(of_replicates - TAKEN_OUT * residual, 0.0)),
        stats.t.ppf(0.975, n_tasks - 1) * np.sqrt(of_tasks),
    )
    return _inside(mean, float(half))


def _inside(mean: float, half: float) -> Bounds:
    return max(0.0, mean - half), min(1.0, mean + half)
