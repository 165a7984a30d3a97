"""Statistics of few seeds: the training seed is the replication unit, paired across conditions. Pure numpy and scipy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import optimize, stats

LEVEL = 0.95
POWER = 0.80


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its t-interval (None where one seed gives none)."""

    mean: float
    ci_low: float | None
    ci_high: float | None
    n: int


def interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Mean over seeds with a 95 % t-interval, n - 1 degrees of freedom. NaN or no value raises ValueError."""
    values = np.asarray(values, float)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"interval: needs finite values, got {values.tolist()}")
    if values.size == 1:
        return Interval(float(values[0]), None, None, 1)
    half = stats.t.ppf((1 + LEVEL) / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size)
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half), int(values.size))


def wilson(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of `n` tasks answered right (Wilson 1927): what other tasks would change, not other seeds."""
    found = stats.binomtest(right, n).proportion_ci(0.95, "wilson")
    return float(found.low), float(found.high)


def paired_p(differences: np.ndarray) -> float | None:
    """Two-sided p of the paired t-test; None with one seed; 1 if all differences are 0, 0 if all are the same other number."""
    d = np.asarray(differences, float)
    if d.size < 2:
        return None
    if d.std() == 0:
        return 1.0 if d[0] == 0 else 0.0
    return float(2 * stats.t.sf(abs(d.mean()) / (d.std(ddof=1) / np.sqrt(d.size)), d.size - 1))


def sign_flip_p(differences: np.ndarray) -> float | None:
    """Exact two-sided p of the sign-flip test over all 2**n flips; None below 6 seeds, where it cannot reach 0.05."""
    d = np.asarray(differences, float)
    if not 6 <= d.size <= 20:
        return None
    flips = np.array(list(itertools.product([1, -1], repeat=d.size)))
    return float((np.abs(flips @ d) >= abs(d.sum()) - 1e-12).mean())


def holm(p: list[float | None]) -> list[float | None]:
    """Holm's step-down adjustment inside a family; None stays None and does not count."""
    order = sorted((i for i, x in enumerate(p) if x is not None), key=lambda i: p[i])  # type: ignore[arg-type, return-value]
    out: list[float | None] = [None] * len(p)
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * p[i]))  # type: ignore[operator]
        out[i] = worst
    return out


def power(effect: float, sd: float, n: int, family: int = 1) -> float:
    """Power of a two-sided paired t-test at level 0.05 / family for a true mean difference `effect`."""
    level = (1 - LEVEL) / family
    critical, shift = stats.t.ppf(1 - level / 2, n - 1), effect / sd * np.sqrt(n)
    # scipy gives NaN far in the tails, where the one is 1 and the other 0
    above, below = stats.nct.sf(critical, n - 1, abs(shift)), stats.nct.cdf(-critical, n - 1, abs(shift))
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


def compare(a: dict[int, float], b: dict[int, float]) -> dict[str, object]:
    """Paired difference a - b over the seeds that both have: interval, p, exact p, spread."""
    seeds = sorted(set(a) & set(b))
    if not seeds:
        raise ValueError(f"compare: no common seed in {sorted(a)} and {sorted(b)}")
    d = np.array([a[s] - b[s] for s in seeds])
    sd = float(d.std(ddof=1)) if d.size > 1 else 0.0
    return {
        **asdict(interval(d)),
        "seeds": seeds,
        "differences": d.tolist(),
        "sd": sd,
        "p": paired_p(d),
        "p_sign_flip": sign_flip_p(d),
    }


def claim(a: str, b: str, row: dict[str, object], family: int) -> str:
    """The sentence that the numbers of a comparison allow: decided (Holm p below 0.05), or not decidable with these seeds."""
    n, mean, sd = int(row["n"]), float(row["mean"]), float(row["sd"])  # type: ignore[call-overload, arg-type]
    if n < 2 or row["p_holm"] is None:
        return f"{a} against {b}: not decidable with {n} seed."
    low, high = float(row["ci_low"]), float(row["ci_high"])  # type: ignore[arg-type]
    numbers = (
        f"{100 * mean:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f}, {n} paired seeds, Holm p = {row['p_holm']:.3g})"
    )
    if float(row["p_holm"]) < 1 - LEVEL:  # type: ignore[arg-type]
        return f"{a} is {'above' if mean > 0 else 'below'} {b}: {numbers}."
    more = seeds_needed(mean, sd, family)
    needs = (
        f"an effect of the observed size needs {more} seeds"
        if more
        else "the observed effect is too small for any affordable number of seeds"
    )
    return f"{a} against {b} is not decidable with {n} seeds: {numbers}; {needs}."
