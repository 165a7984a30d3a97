"""Statistics of few seeds, paired across conditions. Pure numpy and scipy.

The unit of replication is the base model together with the seeds that were trained from it: where
base models are built here, each training seed starts from its own, and an interval is over both.
Seeds that share a base model are averaged first. Where all seeds start from one base model (a
published one), the training seed is the unit, and statements hold for that model.

No variance is no certainty: few seeds on few tasks agree by luck. So the spread between replicates
that an interval or a test goes by is never less than the noise that the items themselves show
(`item_noise`), and noise that all replicates share (`Noise.common`) is added. benchmarks/claims.py
shows what this does to false claims, coverage and power.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from ccpo.publish.statistics import Difference, Interval, Parts

LEVEL = 0.95
POWER = 0.80
LEAST = 3  # replicates of a claim
UNSEEN = 3.0  # events that so many draws may have missed at 95 %: the rule of three
EXACT = 30  # seeds up to which all sign flips are counted
FLIPS = 100_000  # drawn above that
MOST = 1000  # seeds that anybody can afford


@dataclass(frozen=True)
class Noise:
    """What is known of the noise of replicates beside their spread, as standard deviations.

    item: of one replicate, from its items; common: of what all replicates share.
    """

    item: float = 0.0
    common: float = 0.0


@dataclass(frozen=True)
class Range:
    """What a mean can be at all."""

    low: float = -np.inf
    high: float = np.inf


NONE = Noise()
ANY = Range()
SHARE = Range(0.0, 1.0)
GAP = Range(-1.0, 1.0)  # between two shares


def interval(
    values: Sequence[float] | np.ndarray, noise: Noise = NONE, within: Range = ANY
) -> Interval:
    """Mean over replicates with a 95 % t-interval, n - 1 degrees of freedom, from the larger of
    their spread and their known noise. NaN or no value raises ValueError.
    """
    values = np.asarray(values, float)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"interval: needs finite values, got {values.tolist()}")
    mean = float(values.mean())
    if values.size == 1:
        return Interval(mean=mean, ci_low=None, ci_high=None, n=1)
    half = stats.t.ppf((1 + LEVEL) / 2, values.size - 1) * standard_error(values, noise)
    return Interval(
        mean=mean,
        ci_low=float(max(within.low, mean - half)),
        ci_high=float(min(within.high, mean + half)),
        n=int(values.size),
    )


def standard_error(values: np.ndarray, noise: Noise) -> float:
    """Of the mean of two replicates or more."""
    spread = max(float(values.std(ddof=1)), noise.item)
    return float(np.sqrt(spread**2 / values.size + noise.common**2))


def item_noise(marks: Mapping[int, np.ndarray], bases: Mapping[int, str]) -> float:
    """Standard deviation of a replicate's mean that its items alone account for; 0 of one seed.

    marks: for each seed [tasks, samples] of the same tasks, of a condition or of a difference. Each
    task's mean varies over seeds; tasks vary independently, so that the variance of a mean over
    tasks is the sum over tasks by their number squared. Where they vary together the spread between
    seeds is larger, and counts. Where nothing varies, UNSEEN of all samples may come out otherwise
    another time, and no less is taken.
    """
    if len(marks) < 2:
        return 0.0
    values = np.stack([marks[seed] for seed in sorted(marks)])
    n_seeds, n_tasks, n_samples = values.shape
    seen = float(values.mean(axis=2).var(axis=0, ddof=1).sum())
    unseen = UNSEEN / (n_seeds * n_samples**2)
    groups = len({bases[seed] for seed in marks})
    averaged = n_seeds / groups if groups > 1 else 1.0  # seeds that a replicate is the mean of
    return float(np.sqrt(max(seen, unseen) / averaged)) / n_tasks


def draw_noise(marks: np.ndarray) -> float:
    """Standard deviation of a mean from drawing its answers anew; where each task has one answer,
    the most that it can be.

    marks: [tasks, samples] of one draw.
    """
    n_tasks, n_samples = marks.shape
    if n_samples > 1:
        return float(np.sqrt(marks.var(axis=1, ddof=1).sum() / n_samples) / n_tasks)
    return float(np.sqrt(marks.mean() * (1 - marks.mean()) / n_tasks))


def wilson(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of `n` tasks answered right (Wilson 1927): what other tasks would
    change, not other seeds.
    """
    share = stats.binomtest(right, n).proportion_ci(LEVEL, "wilson")
    return float(share.low), float(share.high)


def paired_p(differences: np.ndarray, noise: Noise = NONE) -> float | None:
    """Two-sided p of the paired t-test, from the larger of the differences' spread and their known
    noise. None with one difference, or where neither is known and the mean is not 0.
    """
    d = np.asarray(differences, float)
    if d.size < 2:
        return None
    error = standard_error(d, noise)
    if error == 0:
        return 1.0 if d[0] == 0 else None
    return float(2 * stats.t.sf(abs(d.mean()) / error, d.size - 1))


def equivalence_p(differences: np.ndarray, effect: float, noise: Noise = NONE) -> float | None:
    """p of equivalence within `effect`: the larger of two one-sided t-tests (Schuirmann 1987). None
    as `paired_p`.
    """
    d = np.asarray(differences, float)
    if d.size < 2:
        return None
    error = standard_error(d, noise)
    if error == 0:
        return None
    return float(stats.t.sf((effect - abs(d.mean())) / error, d.size - 1))


@dataclass(frozen=True)
class SignFlip:
    """Two-sided p of the sign-flip test and its standard error, 0 where all flips are counted."""

    p: float
    error: float


def sign_flip(differences: np.ndarray, flips: int = FLIPS) -> SignFlip | None:
    """Share of sign flips whose sum is as far from 0 as the differences' own: all 2**n of them up
    to EXACT differences, by halves (each sum of one half with the sorted sums of the other);
    `flips` of them, drawn, above. None below 6 differences, where it cannot reach 0.05.
    """
    d = np.asarray(differences, float)
    if d.size < 6:
        return None
    far = abs(d.sum()) - 1e-12
    if d.size > EXACT:
        rng = np.random.default_rng(0)
        batches = [rng.choice((-1.0, 1.0), (flips // 50, d.size)) @ d for _ in range(50)]
        beyond = int((np.abs(np.concatenate(batches)) >= far).sum())
        p = (beyond + 1) / (flips + 1)  # the differences' own signs are a flip, too
        return SignFlip(float(p), float(np.sqrt(p * (1 - p) / flips)))
    ours = _flipped(d[: d.size // 2])
    theirs = np.sort(_flipped(d[d.size // 2 :]))
    above = theirs.size - np.searchsorted(theirs, far - ours, "left")
    below = np.searchsorted(theirs, -far - ours, "right")
    both = float(above.sum() + below.sum()) if far > 0 else float(ours.size * theirs.size)
    return SignFlip(both / (ours.size * theirs.size), 0.0)


def _flipped(values: np.ndarray) -> np.ndarray:
    """The 2**n sums of all sign flips."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment inside a family; None stays None and does not count."""
    known = sorted((value, i) for i, value in enumerate(p) if value is not None)
    out: list[float | None] = [None] * len(p)
    worst = 0.0
    for rank, (value, i) in enumerate(known):
        worst = max(worst, min(1.0, (len(known) - rank) * value))
        out[i] = worst
    return out


@functools.cache
def _quadrature(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Spreads of n values of spread 1, and the chances that they stand for (Gauss and Legendre)."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    spreads = np.sqrt(stats.chi2.ppf((nodes + 1) / 2, n - 1) / (n - 1))
    return spreads, weights / 2


def power(effect: float, sd: float, n: int, family: int = 1, noise: Noise = NONE) -> float:
    """Power of the two-sided paired t-test at level 0.05 / family for a true mean difference
    `effect` of true spread `sd`, where no spread below the item noise is believed.
    """
    critical = stats.t.ppf(1 - (1 - LEVEL) / family / 2, n - 1)
    spreads, weights = _quadrature(n)
    limit = critical * np.maximum(spreads, noise.item / sd)
    shift = abs(effect) / sd * np.sqrt(n)
    return float(weights @ (stats.norm.sf(limit - shift) + stats.norm.cdf(-limit - shift)))


def detectable(sd: float, n: int, family: int = 1, noise: Noise = NONE) -> float | None:
    """Smallest true difference found with 80 % power by n replicates; None where there are too few
    for a claim, or no spread is known.
    """
    spread = max(sd, noise.item)
    if n < LEAST or spread == 0:
        return None
    high = spread / np.sqrt(n)
    while power(high, spread, n, family, noise) < POWER:
        high *= 2
    low = high / 2 if high > spread / np.sqrt(n) else 0.0
    return float(
        optimize.brentq(lambda e: power(e, spread, n, family, noise) - POWER, low, high, xtol=1e-9)
    )


def seeds_needed(effect: float, sd: float, family: int = 1, noise: Noise = NONE) -> int | None:
    """Fewest replicates that find `effect` with 80 % power; None if more than MOST, or no spread is
    known.
    """
    spread = max(sd, noise.item)
    if effect == 0 or spread == 0 or power(effect, spread, MOST, family, noise) < POWER:
        return None
    few = LEAST - 1
    enough = MOST
    while enough - few > 1:  # power grows with n
        n = (few + enough) // 2
        if power(effect, spread, n, family, noise) >= POWER:
            enough = n
        else:
            few = n
    return enough


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
    by_seed: Mapping[int, float],
    bases: Mapping[int, str] | None = None,
    noise: Noise = NONE,
    effect: float | None = None,
) -> Difference:
    """A paired difference of shares over replicates: interval, tests, spread.

    by_seed: the difference of each seed; bases: the base model of each seed (of both sides), None:
    every seed is a replicate; effect: what equivalence is tested within.
    """
    seeds = sorted(by_seed)
    owners = bases or dict.fromkeys(seeds, "")
    d = np.array(replicates(by_seed, owners))
    flips = sign_flip(d)
    return Difference(
        **dict(interval(d, noise, GAP)),
        seeds=tuple(seeds),
        unit="seed" if len({owners[s] for s in seeds}) == 1 else "base model",
        differences=tuple(by_seed[s] for s in seeds),
        sd=float(d.std(ddof=1)) if d.size > 1 else 0.0,
        item=noise.item,
        p=paired_p(d, noise),
        p_equivalent=None if effect is None else equivalence_p(d, effect, noise),
        p_sign_flip=flips.p if flips else None,
        p_sign_flip_error=flips.error if flips else None,
    )
