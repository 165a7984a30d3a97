"""Statistics of few seeds, paired across conditions. Pure numpy and scipy.

The unit of replication is the base model together with the seeds that were trained from it: where
base models are built here, each training seed starts from its own, and an interval is over both.
Seeds that share a base model are averaged first. Where all seeds start from one base model (a
published one), the training seed is the unit, and what is said holds for that model.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import optimize, stats

from ccpo.publish.statistics import Difference, Interval, Parts

LEVEL = 0.95
POWER = 0.80


def interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Mean over seeds with a 95 % t-interval, n - 1 degrees of freedom. NaN or no value raises
    ValueError.
    """
    values = np.asarray(values, float)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"interval: needs finite values, got {values.tolist()}")
    if values.size == 1:
        return Interval(mean=float(values[0]), ci_low=None, ci_high=None, n=1)
    half = stats.t.ppf((1 + LEVEL) / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size)
    return Interval(
        mean=float(values.mean()),
        ci_low=float(values.mean() - half),
        ci_high=float(values.mean() + half),
        n=int(values.size),
    )


def wilson(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of `n` tasks answered right (Wilson 1927): what other tasks would
    change, not other seeds.
    """
    share = stats.binomtest(right, n).proportion_ci(LEVEL, "wilson")
    return float(share.low), float(share.high)


def paired_p(differences: np.ndarray) -> float | None:
    """Two-sided p of the paired t-test; None with one seed; 1 if all differences are 0, 0 if all
    are the same other number.
    """
    d = np.asarray(differences, float)
    if d.size < 2:
        return None
    if d.std() == 0:
        return 1.0 if d[0] == 0 else 0.0
    return float(2 * stats.t.sf(abs(d.mean()) / (d.std(ddof=1) / np.sqrt(d.size)), d.size - 1))


def sign_flip_p(differences: np.ndarray) -> float | None:
    """Exact two-sided p of the sign-flip test over all 2**n flips; None below 6 seeds, where it
    cannot reach 0.05.
    """
    d = np.asarray(differences, float)
    if not 6 <= d.size <= 20:
        return None
    flips = np.array(list(itertools.product([1, -1], repeat=d.size)))
    return float((np.abs(flips @ d) >= abs(d.sum()) - 1e-12).mean())


def holm(p: list[float | None]) -> list[float | None]:
    """Holm's step-down adjustment inside a family; None stays None and does not count."""
    known = sorted((value, i) for i, value in enumerate(p) if value is not None)
    out: list[float | None] = [None] * len(p)
    worst = 0.0
    for rank, (value, i) in enumerate(known):
        worst = max(worst, min(1.0, (len(known) - rank) * value))
        out[i] = worst
    return out


def power(effect: float, sd: float, n: int, family: int = 1) -> float:
    """Power of a two-sided paired t-test at level 0.05 / family for a true mean difference
    `effect`.
    """
    level = (1 - LEVEL) / family
    critical = stats.t.ppf(1 - level / 2, n - 1)
    shift = effect / sd * np.sqrt(n)
    # scipy gives NaN far in the tails, where the one is 1 and the other 0
    above = stats.nct.sf(critical, n - 1, abs(shift))
    below = stats.nct.cdf(-critical, n - 1, abs(shift))
    return float(np.nan_to_num(above, nan=1.0) + np.nan_to_num(below, nan=0.0))


def detectable(sd: float, n: int, family: int = 1) -> float | None:
    """Smallest true difference found with 80 % power by n seeds; None with one seed."""
    if n < 2:
        return None
    if sd == 0:
        return 0.0
    high = sd / np.sqrt(n)
    while power(high, sd, n, family) < POWER:
        high *= 2
    return float(optimize.brentq(lambda e: power(e, sd, n, family) - POWER, high / 2, high))


def seeds_needed(effect: float, sd: float, family: int = 1, most: int = 1000) -> int | None:
    """Fewest seeds that find `effect` with 80 % power; None if more than `most`."""
    if effect == 0:
        return None
    if sd == 0:
        return 2
    return next((n for n in range(2, most + 1) if power(abs(effect), sd, n, family) >= POWER), None)


def replicates(by_seed: Mapping[int, float], bases: Mapping[int, str]) -> list[float]:
    """One value for each replicate: means over the seeds of a base model, or the seeds' own values
    where all share one.
    """
    grouped: dict[str, list[float]] = {}
    for seed in sorted(by_seed):
        grouped.setdefault(bases[seed], []).append(by_seed[seed])
    if len(grouped) == 1:
        return [by_seed[seed] for seed in sorted(by_seed)]
    return [float(np.mean(values)) for values in grouped.values()]


def sources(
    by_seed: Mapping[int, float], bases: Mapping[int, str], samples: Sequence[np.ndarray]
) -> Parts:
    """Standard deviations of a mean over tasks by their source; None where the design cannot tell.

    base, seed: between base models, and between training seeds of one (one-way random effects,
    ANOVA estimators with unequal counts, Searle, Casella & McCulloch 1992, section 3.6; negative
    ones are 0); they need several base models, one of them with several seeds.
    draw: from drawing the answers anew, by the spread of a task's samples; it is part of `seed`,
        and taken out of it.
    task: from drawing the test tasks anew. total: between seeds as they are.
    by_seed: the means; samples: for each seed [tasks, samples] of what they are means of.
    """
    values = np.array([by_seed[s] for s in sorted(by_seed)])
    drawn = [np.mean(x.var(axis=1, ddof=1)) / x.size for x in samples if x.shape[1] > 1]
    draw = float(np.mean(drawn)) if drawn else None
    tasks = [x.mean(axis=1).var(ddof=1) / len(x) for x in samples if len(x) > 1]
    names = [bases[s] for s in sorted(by_seed)]
    groups = [values[np.array(names) == name] for name in dict.fromkeys(names)]
    between, within = _nested(groups, float(values.mean()))
    return Parts(
        base=None if between is None else float(np.sqrt(max(0.0, between))),
        seed=None if within is None else float(np.sqrt(max(0.0, within - (draw or 0.0)))),
        draw=None if draw is None else float(np.sqrt(draw)),
        task=float(np.sqrt(np.mean(tasks or [0.0]))),
        total=float(values.std(ddof=1)) if len(values) > 1 else None,
    )


def _nested(groups: Sequence[np.ndarray], mean: float) -> tuple[float | None, float | None]:
    """ANOVA estimates of the variances between groups and within them; None where each has one
    member, or there is only one. mean: of all values.
    """
    n = sum(map(len, groups))
    if not 1 < len(groups) < n:
        return None, None
    counts = np.array([len(g) for g in groups])
    means = np.array([g.mean() for g in groups])
    within = sum(float(((g - g.mean()) ** 2).sum()) for g in groups) / (n - len(groups))
    between = float((counts * (means - mean) ** 2).sum()) / (len(groups) - 1)
    each = (n - (counts**2).sum() / n) / (len(groups) - 1)
    return (between - within) / each, within


def compare(
    a: Mapping[int, float], b: Mapping[int, float], bases: Mapping[int, str] | None = None
) -> Difference:
    """Paired difference a - b over the seeds that both have: interval, p, exact p, spread, all over
    replicates.

    bases: the base model of each seed (of both sides); None: every seed is a replicate.
    """
    seeds = sorted(set(a) & set(b))
    if not seeds:
        raise ValueError(f"compare: no common seed in {sorted(a)} and {sorted(b)}")
    by_seed = {s: a[s] - b[s] for s in seeds}
    d = np.array(replicates(by_seed, bases or dict.fromkeys(seeds, "")))
    return Difference(
        **dict(interval(d)),
        seeds=tuple(seeds),
        unit="seed" if len({(bases or {}).get(s, "") for s in seeds}) == 1 else "base model",
        differences=tuple(by_seed[s] for s in seeds),
        sd=float(d.std(ddof=1)) if d.size > 1 else 0.0,
        p=paired_p(d),
        p_sign_flip=sign_flip_p(d),
    )
