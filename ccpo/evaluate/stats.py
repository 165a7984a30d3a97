"""Statistics of few seeds, paired across conditions. Pure numpy and scipy.

The unit of replication is the base model together with the seeds that were trained from it: where
base models are built here, each training seed starts from its own, and an interval is over both.
Seeds that share a base model are averaged first. Where all seeds start from one base model (a
published one), the training seed is the unit, and what is said holds for that model.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

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
    """Mean over seeds with a 95 % t-interval, n - 1 degrees of freedom. NaN or no value raises
    ValueError.
    """
    values = np.asarray(values, float)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"interval: needs finite values, got {values.tolist()}")
    if values.size == 1:
        return Interval(float(values[0]), None, None, 1)
    half = stats.t.ppf((1 + LEVEL) / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size)
    return Interval(
        float(values.mean()),
        float(values.mean() - half),
        float(values.mean() + half),
        int(values.size),
    )


def wilson(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of `n` tasks answered right (Wilson 1927): what other tasks would
    change, not other seeds.
    """
    found = stats.binomtest(right, n).proportion_ci(0.95, "wilson")
    return float(found.low), float(found.high)


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
    order = sorted((i for i, x in enumerate(p) if x is not None), key=lambda i: p[i])  # type: ignore[arg-type, return-value]
    out: list[float | None] = [None] * len(p)
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * p[i]))  # type: ignore[operator]
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
) -> dict[str, float | None]:
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
    several = [x for x in samples if x.shape[1] > 1]
    draw = (
        float(np.mean([np.mean(x.var(axis=1, ddof=1)) / x.size for x in several]))
        if several
        else None
    )
    task = float(
        np.mean([x.mean(axis=1).var(ddof=1) / len(x) for x in samples if len(x) > 1] or [0.0])
    )
    out: dict[str, float | None] = {
        "base": None,
        "seed": None,
        "draw": None,
        "task": float(np.sqrt(task)),
        "total": None,
    }
    if draw is not None:
        out["draw"] = float(np.sqrt(draw))
    if len(values) > 1:
        out["total"] = float(values.std(ddof=1))
    names = [bases[s] for s in sorted(by_seed)]
    groups = [
        values[[i for i, name in enumerate(names) if name == base]] for base in dict.fromkeys(names)
    ]
    if 1 < len(groups) < len(values):
        counts = np.array([len(g) for g in groups])
        within = sum(float(((g - g.mean()) ** 2).sum()) for g in groups) / (
            len(values) - len(groups)
        )
        between = float(
            (counts * (np.array([g.mean() for g in groups]) - values.mean()) ** 2).sum()
        ) / (len(groups) - 1)
        each = (len(values) - (counts**2).sum() / len(values)) / (len(groups) - 1)
        out["base"] = float(np.sqrt(max(0.0, (between - within) / each)))
        out["seed"] = float(np.sqrt(max(0.0, within - (draw or 0.0))))
    return out


def compare(
    a: Mapping[int, float], b: Mapping[int, float], bases: Mapping[int, str] | None = None
) -> dict[str, object]:
    """Paired difference a - b over the seeds that both have: interval, p, exact p, spread, all over
    replicates.

    bases: the base model of each seed (of both sides); None: every seed is a replicate.
    """
    seeds = sorted(set(a) & set(b))
    if not seeds:
        raise ValueError(f"compare: no common seed in {sorted(a)} and {sorted(b)}")
    by_seed = {s: a[s] - b[s] for s in seeds}
    d = np.array(replicates(by_seed, bases or dict.fromkeys(seeds, "")))
    sd = float(d.std(ddof=1)) if d.size > 1 else 0.0
    return {
        **asdict(interval(d)),
        "seeds": seeds,
        "unit": "seed" if len({(bases or {}).get(s, "") for s in seeds}) == 1 else "base model",
        "differences": [by_seed[s] for s in seeds],
        "sd": sd,
        "p": paired_p(d),
        "p_sign_flip": sign_flip_p(d),
    }


def decoded(temperature: float) -> str:
    """How a decoding is called in a sentence."""
    return "greedily" if temperature == 0 else f"at temperature {temperature:g}"


def counted(row: Mapping[str, object]) -> str:
    """What an interval is over, in words."""
    n = int(row["n"])  # type: ignore[call-overload]
    if row.get("unit") == "base model":
        return f"{n} base models, each with a training seed or more of its own"
    return f"{n} paired seeds of one base model" if n > 1 else "1 seed"


def points(row: Mapping[str, object]) -> str:
    """A difference in percentage points with its interval."""
    mean = row["mean"]
    low = row["ci_low"]
    high = row["ci_high"]
    if low is None:
        return f"{100 * float(mean):+.1f}"  # type: ignore[arg-type]
    return f"{100 * float(mean):+.1f} [{100 * float(low):+.1f}, {100 * float(high):+.1f}]"  # type: ignore[arg-type]


def claim(a: str, b: str, row: Mapping[str, object], family: int, temperature: float = 0.0) -> str:
    """The sentence that the numbers of a comparison allow: decided (Holm p below 0.05), or not
    decidable with these seeds.
    """
    n = int(row["n"])  # type: ignore[call-overload]
    mean = float(row["mean"])  # type: ignore[arg-type]
    sd = float(row["sd"])  # type: ignore[arg-type]
    if n < 2 or row["p_holm"] is None:
        return f"{a} against {b}: not decidable with {n} seed."
    numbers = (
        f"{points(row)} points (95 % interval over {counted(row)}; Holm p = {row['p_holm']:.3g})"
    )
    how = decoded(temperature)
    if float(row["p_holm"]) < 1 - LEVEL:  # type: ignore[arg-type]
        return f"Answering {how}, {a} is {'above' if mean > 0 else 'below'} {b}: {numbers}."
    more = seeds_needed(mean, sd, family)
    needs = (
        f"an effect of the observed size needs {more}"
        if more
        else "the observed effect is too small for any affordable number"
    )
    return (
        f"Answering {how}, {a} against {b} is not decidable with {n} "
        f"{row.get('unit', 'seed')}s: {numbers}; {needs}."
    )


def gained(
    label: str,
    gain: Mapping[str, Any],
    untrained: float,
    temperatures: Mapping[str, float],
    primary: str,
) -> str:
    """What training added under each decoding, and how much of it a lower temperature gives the
    untrained team, too.

    gain: as in stats.json; untrained: accuracy of the untrained team at its best decoding.
    """
    each = "; ".join(
        f"{decoded(temperatures[name])} {points(row)}" for name, row in gain["by_decoding"].items()
    )
    beyond = gain["beyond"]
    sampled = [row for name, row in gain["by_decoding"].items() if temperatures[name] == 1]
    text = (
        f"{label} gained over its own untrained team, in points: {each}. The untrained team is "
        "best "
        f"{decoded(temperatures[gain['best']])}, {100 * untrained:.1f} % right; beyond what "
        "temperature alone gives, training added "
        f"{points(beyond)} ({decoded(temperatures[primary])})."
    )
    if _only_surer(sampled, beyond):
        text += (
            " Its gain at temperature 1 is no more than temperature alone gives: sharpening, "
            "as far as these seeds tell."
        )
    return text


def scope(bases: Sequence[Sequence[str]], tasks: int) -> str:
    """What the intervals of an experiment are over, and what they say nothing about. `bases`: of
    each condition the base model of each seed; conditions with other designs are said one by one.
    """
    units = "; ".join(dict.fromkeys(_unit(of_seeds) for of_seeds in bases))
    return (
        f"{units}, and over the answers drawn for {tasks} test tasks. They say nothing of other "
        "recipes, other tasks, or of a machine "
        "whose kernels round otherwise, unless such results stand beside these."
    )


def _unit(bases: Sequence[str]) -> str:
    n = len(set(bases))
    if n == 1 and len(bases) == 1:
        return f"One training seed of one base model, {bases[0]}: no interval over seeds"
    if n == 1:
        return f"Intervals are over {len(bases)} training seeds of one base model, {bases[0]}"
    recipes = " with ".join(
        dict.fromkeys(part.split("/")[0] for base in bases for part in base.split("+"))
    )
    own = (
        "a training seed of its own"
        if n == len(bases)
        else "training seeds of its own, which are averaged first"
    )
    return f"Intervals are over {n} base models of the recipe {recipes}, each with {own}"


def elsewhere(
    rows: Mapping[str, Mapping[str, object]], primary: str, temperatures: Mapping[str, float]
) -> str:
    """The same difference under the other decodings, unadjusted; and where it is there at
    temperature 1, not greedily, and clearly larger than greedily (`apart`), what that means. That
    it is not decided greedily alone means nothing.
    """
    others = [
        f"{decoded(temperatures[name])} {points(row)}"
        for name, row in rows.items()
        if name != primary
    ]
    if not others:
        return ""
    sampled = [row for name, row in rows.items() if temperatures[name] == 1]
    surer = temperatures[primary] == 0 and _only_surer(sampled, rows[primary])
    tail = (
        " What differs at temperature 1 and not greedily is how sure the teams are, not what "
        "they know."
        if surer
        else ""
    )
    return f"The same {'; '.join(others)}.{tail}"


def _only_surer(sampled: Sequence[Mapping[str, Any]], greedy: Mapping[str, Any]) -> bool:
    """Whether something is there at temperature 1, is not there greedily, and is clearly (`apart`,
    paired) larger sampled than greedily. Not being decided greedily is alone no sign of it.
    """
    return not _clear(greedy) and any(_clear(row) and _clear(row["apart"]) for row in sampled)


def _clear(row: Mapping[str, object]) -> bool:
    """Whether an interval leaves 0 out."""
    low = row["ci_low"]
    high = row["ci_high"]
    return low is not None and (float(low) > 0 or float(high) < 0)  # type: ignore[arg-type]
