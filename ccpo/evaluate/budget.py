"""Variance budget: what the variance of a primary number is made of, and what more effort buys.

A mark of seed s on task t in sample j is mean + seed_s + item_t + seed_item_st + draw_stj, all
random (a crossed two-way layout; ANOVA estimators of Searle, Casella & McCulloch 1992, sections 4.5
and 4.9; negative ones are 0). Seeds lie in base models, where these have several each
(`stats.sources`). The mean over S seeds in B base models, T tasks and k samples then varies by

  base / B + seed / S + item / T + seed_item / (S T) + draw / (S T k).

The interval over seeds holds all but item / T, since its tasks are always the same. Graders and tie
rules are no replicates: their part is the variance of the number between them, and no more of
anything makes it smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from ccpo.evaluate import answers, marks, referee_sentences
from ccpo.evaluate import stats as st
from ccpo.evaluate.answers import Answers
from ccpo.evaluate.condition import Runs
from ccpo.publish.referee_statistics import Budget, HalfWidths, Variances

MORE = 100  # tasks
SOURCES = ("base", "seed", "item", "seed_item", "draw")  # of a mark
BySeed = Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Components:
    """Variances of a single mark by source. None: the design cannot tell it from the one above it
    (base from seed, draw from seed_item).
    """

    base: float | None
    seed: float
    item: float
    seed_item: float
    draw: float | None


@dataclass(frozen=True)
class Design:
    """How many replicates (base models, or seeds of one), seeds of each, tasks, samples a task."""

    replicates: int
    each: float
    tasks: int
    samples: int

    @property
    def seeds(self) -> float:
        """Seeds in all."""
        return self.replicates * self.each

    def variances(self, of: Components) -> dict[str, float | None]:
        """Of the mean, by source."""
        cells = self.seeds * self.tasks
        return {
            "base": None if of.base is None else of.base / self.replicates,
            "seed": of.seed / self.seeds,
            "item": of.item / self.tasks,
            "seed_item": of.seed_item / cells,
            "draw": None if of.draw is None else of.draw / (cells * self.samples),
        }

    def half_width(self, of: Components, other_tasks: bool) -> float | None:
        """Half of the predicted 95 % interval over replicates, or over other tasks as well; None of
        one replicate, or where no variance is known.
        """
        if self.replicates < 2:
            return None
        parts = self.variances(of)
        own = sum(v for name, v in parts.items() if v and (other_tasks or name != "item"))
        if own == 0:
            return None
        return float(stats.t.ppf((1 + st.LEVEL) / 2, self.replicates - 1) * np.sqrt(own))


def components(values: BySeed, bases: Mapping[int, str], greedy: bool) -> Components | None:
    """Variances of a mark by source; None of one seed or one task. `values`: by seed [tasks,
    samples] of the same tasks; `greedy`: drawing again gives the same answers.
    """
    table = np.stack([values[seed] for seed in sorted(values)])
    n_seeds, n_tasks, n_samples = table.shape
    if n_seeds < 2 or n_tasks < 2:
        return None
    cells = table.mean(axis=2)
    by_seed = cells.mean(axis=1)
    by_task = cells.mean(axis=0)
    rest = cells - by_seed[:, None] - by_task[None] + cells.mean()
    own = float((rest**2).sum()) / ((n_seeds - 1) * (n_tasks - 1))
    drawn = float(table.var(axis=2, ddof=1).mean()) if n_samples > 1 else None
    seed = float(by_seed.var(ddof=1)) - own / n_tasks
    means = dict(zip(sorted(values), map(float, by_seed), strict=True))
    known = st.sources(means, bases, [])
    inside = own / n_tasks  # of a seed's mean, by its tasks and draws alone
    return Components(
        base=None if known.base is None else known.base**2,
        seed=max(0.0, seed if known.seed is None else known.seed**2 - inside),
        item=max(0.0, float(by_task.var(ddof=1)) - own / n_seeds),
        seed_item=max(0.0, own - (drawn or 0.0) / n_samples),
        draw=0.0 if greedy else drawn,
    )


def design(values: BySeed, bases: Mapping[int, str]) -> Design:
    """How a number was measured."""
    n_tasks, n_samples = next(iter(values.values())).shape
    groups = len({bases[seed] for seed in values})
    replicates = groups if groups > 1 else len(values)
    return Design(replicates, len(values) / replicates, n_tasks, n_samples)


@dataclass(frozen=True)
class Number:
    """A primary number: `values` by seed [tasks, samples], and what it would be under other graders
    of the same answers and under other tie rules of the same votes.
    """

    name: str
    compared: bool
    values: BySeed
    bases: Mapping[int, str]
    greedy: bool
    graders: Sequence[float] = ()
    ties: Sequence[float] = ()


def budgets(there: Mapping[str, Runs], pairs: Iterable[tuple[str, str]]) -> tuple[Budget, ...]:
    """Of each condition under its primary decoding, and of each declared comparison."""
    known = {label: answers.of_runs(runs, runs.planned.primary) for label, runs in there.items()}
    numbers = [_condition(runs, known[label]) for label, runs in there.items()]
    numbers += [_comparison(there[a], there[b], known[a], known[b]) for a, b in pairs]
    return tuple(budget(number) for number in numbers)


def _condition(runs: Runs, known: Answers) -> Number:
    planned = runs.planned
    return Number(
        planned.label,
        False,
        known.accuracy,
        runs.bases,
        planned.decodings[planned.primary] == 0,
        _means([known.accuracy, *known.graders.values()]),
        _means(known.ties.values()),
    )


def _comparison(a: Runs, b: Runs, ours: Answers, theirs: Answers) -> Number:
    """Graders and tie rules change both sides, where both have them; else the one that has."""
    values = marks.minus(ours.accuracy, theirs.accuracy)
    both = [g for g in ours.graders if g in theirs.graders]
    graded = [marks.minus(ours.graders[g], theirs.graders[g]) for g in both]
    tied = [
        marks.minus(ours.ties.get(tie, ours.accuracy), theirs.ties.get(tie, theirs.accuracy))
        for tie in (ours.ties or theirs.ties)
    ]
    return Number(
        f"{a.planned.label} − {b.planned.label}",
        True,
        values,
        {seed: f"{a.bases[seed]}, {b.bases[seed]}" for seed in values},
        a.planned.decodings[a.planned.primary] == 0,
        _means([values, *graded]),
        _means(tied),
    )


def _means(alternatives: Iterable[BySeed]) -> list[float]:
    """The number under each alternative, over what has a verdict in it."""
    return [float(np.nanmean([np.nanmean(v) for v in of.values()])) for of in alternatives]


def _between(values: Sequence[float]) -> float | None:
    """Variance of a number between alternatives; None of one."""
    return float(np.var(values, ddof=1)) if len(values) > 1 else None


def budget(number: Number) -> Budget:
    """The parts of a number's variance, and what more effort buys."""
    of = components(number.values, number.bases, number.greedy)
    made = design(number.values, number.bases)
    parts = (
        made.variances(of) if of else dict.fromkeys(("base", "seed", "item", "seed_item", "draw"))
    )
    variances = Variances(**parts, grader=_between(number.graders), tie=_between(number.ties))
    estimate = float(np.mean([v.mean() for v in number.values.values()]))
    over_seeds = _bought(of, made, number.greedy, other_tasks=False)
    unit = "seed" if len({number.bases[s] for s in number.values}) == 1 else "base model"
    return Budget(
        number=number.name,
        kind="comparison" if number.compared else "condition",
        estimate=estimate,
        unit=unit,
        replicates=made.replicates,
        seeds=len(number.values),
        tasks=made.tasks,
        samples=made.samples,
        variances=variances,
        over_seeds=over_seeds,
        over_both=_bought(of, made, number.greedy, other_tasks=True),
        sentence=referee_sentences.spent(number.name, unit, variances, over_seeds),
    )


def _bought(of: Components | None, made: Design, greedy: bool, other_tasks: bool) -> HalfWidths:
    if of is None:
        return HalfWidths(now=None, replicate=None, sample=None, tasks=None)
    sampled = replace(made, samples=made.samples + 1)
    known = not greedy and of.draw is not None
    return HalfWidths(
        now=made.half_width(of, other_tasks),
        replicate=replace(made, replicates=made.replicates + 1).half_width(of, other_tasks),
        sample=sampled.half_width(of, other_tasks) if known else None,
        tasks=replace(made, tasks=made.tasks + MORE).half_width(of, other_tasks),
    )
