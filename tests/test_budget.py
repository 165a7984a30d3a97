"""The variance budget: parts are those that marks were drawn with, what they predict is what the
interval is and what another design has, and only what can be told is told.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ccpo.evaluate import budget, condition
from ccpo.evaluate import stats as st
from ccpo.evaluate.budget import Components, Design, Number

TRUE = Components(base=None, seed=0.04, item=0.09, seed_item=0.05, draw=0.16)


def drawn(rng: np.random.Generator, shape: tuple[int, int, int], of: Components) -> np.ndarray:
    """Marks [seeds, tasks, samples] of these variances."""
    n_seeds, n_tasks, _ = shape
    cells = (
        np.sqrt(of.seed) * rng.standard_normal((n_seeds, 1))
        + np.sqrt(of.item) * rng.standard_normal((1, n_tasks))
        + np.sqrt(of.seed_item) * rng.standard_normal((n_seeds, n_tasks))
    )
    return cells[:, :, None] + np.sqrt(of.draw or 0.0) * rng.standard_normal(shape)


def by_seed(table: np.ndarray) -> dict[int, np.ndarray]:
    return dict(enumerate(table))


def one_base(table: np.ndarray) -> dict[int, str]:
    return dict.fromkeys(range(len(table)), "base")


def test_parts_are_those_that_marks_were_drawn_with() -> None:
    """Means of 400 draws within five standard errors of the truth."""
    rng = np.random.default_rng(0)
    estimates = []
    for _ in range(400):
        table = drawn(rng, (6, 25, 3), TRUE)
        of = budget.components(by_seed(table), one_base(table), greedy=False)
        assert of is not None
        assert of.base is None
        assert of.draw is not None
        estimates.append((of.seed, of.item, of.seed_item, of.draw))
    values = np.array(estimates)
    errors = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    truth = np.array([TRUE.seed, TRUE.item, TRUE.seed_item, TRUE.draw])
    assert (np.abs(values.mean(axis=0) - truth) <= 5 * errors).all()


@pytest.mark.parametrize("shape", [(6, 25, 3), (6, 25, 1), (3, 60, 2)])
def test_the_variance_of_the_mean_is_that_of_means_drawn_anew(shape: tuple[int, int, int]) -> None:
    """Design.variances against the variance of 3000 simulated means (5 standard errors)."""
    rng = np.random.default_rng(1)
    n_seeds, n_tasks, n_samples = shape
    means = [drawn(rng, shape, TRUE).mean() for _ in range(3000)]
    parts = Design(n_seeds, 1.0, n_tasks, n_samples).variances(TRUE)
    predicted = sum(value or 0.0 for value in parts.values())
    assert np.var(means, ddof=1) == pytest.approx(predicted, rel=5 * np.sqrt(2 / 3000))


def test_what_is_predicted_of_the_design_as_it_is_is_its_interval() -> None:
    """Exactly, where no part is below 0: the same sum of squares, taken apart and put together."""
    rng = np.random.default_rng(2)
    table = drawn(rng, (5, 40, 2), Components(None, 0.2, 0.1, 0.02, 0.05))
    values = by_seed(table)
    row = budget.budget(Number("x", False, values, one_base(table), greedy=False))
    interval = condition.contrast(values, one_base(table))
    assert interval.ci_high is not None
    assert row.over_seeds.now == pytest.approx(interval.ci_high - interval.mean)
    assert row.over_both.now is not None
    assert row.over_both.now > row.over_seeds.now
    for bought in (row.over_seeds.replicate, row.over_seeds.sample, row.over_seeds.tasks):
        assert bought is not None
        assert bought < row.over_seeds.now


def test_what_more_effort_buys_is_what_it_has() -> None:
    """Mean squared half-widths of 300 simulated intervals of the larger design, of truth's parts:
    t is known, so that the mean of squares is (20 %, about three standard errors).
    """
    of = Components(None, 0.0025, 0.05, 0.05, 0.1)
    rng = np.random.default_rng(3)
    made = Design(5, 1.0, 50, 2)
    larger = {
        "replicate": (6, 50, 2),
        "sample": (5, 50, 3),
        "tasks": (5, 50 + budget.MORE, 2),
    }
    bought = budget._bought(of, made, greedy=False, other_tasks=False)
    for name, shape in larger.items():
        squares = []
        for _ in range(300):
            means = drawn(rng, shape, of).mean(axis=(1, 2))
            row = st.interval(means)
            assert row.ci_high is not None
            squares.append((row.ci_high - row.mean) ** 2)
        assert getattr(bought, name) ** 2 == pytest.approx(np.mean(squares), rel=0.2), name


def nested(rng: np.random.Generator, groups: int, each: int) -> tuple[np.ndarray, dict[int, str]]:
    """Marks whose base models vary by 0.09 and their seeds by 0.01."""
    base = np.repeat(0.3 * rng.standard_normal(groups), each)
    seed = 0.1 * rng.standard_normal(groups * each)
    rest = 0.2 * rng.standard_normal((groups * each, 30, 1))
    bases = {s: f"b{s // each}" for s in range(groups * each)}
    return (base + seed)[:, None, None] + rest, bases


def test_base_models_are_told_from_seeds_where_each_has_several() -> None:
    rng = np.random.default_rng(4)
    estimates = []
    for _ in range(300):
        table, bases = nested(rng, 6, 3)
        of = budget.components(by_seed(table), bases, greedy=True)
        assert of is not None
        estimates.append((of.base or 0.0, of.seed))
        assert of.draw == 0.0
        made = budget.design(by_seed(table), bases)
        assert (made.replicates, made.each) == (6, 3)
    assert np.mean(estimates, axis=0) == pytest.approx([0.09, 0.01], rel=0.15)
    table, bases = nested(rng, 6, 3)
    row = budget.budget(Number("x", False, by_seed(table), bases, greedy=True))
    interval = condition.contrast(by_seed(table), bases)
    assert interval.ci_high is not None
    assert (row.unit, row.replicates, row.seeds) == ("base model", 6, 18)
    assert row.over_seeds.now == pytest.approx(interval.ci_high - interval.mean)


def test_what_a_design_cannot_tell_is_not_told() -> None:
    rng = np.random.default_rng(5)
    table = drawn(rng, (4, 20, 1), TRUE)
    sampled = budget.budget(Number("x", False, by_seed(table), one_base(table), greedy=False))
    assert sampled.variances.draw is None
    assert sampled.over_seeds.sample is None
    greedy = budget.budget(Number("x", False, by_seed(table), one_base(table), greedy=True))
    assert greedy.variances.draw == 0.0
    assert greedy.over_seeds.sample is None  # a greedy answer is the same another time
    number = Number("x", False, {0: table[0]}, {0: "b"}, greedy=True, graders=[0.4, 0.6])
    alone = budget.budget(number)
    assert alone.variances.model_dump(exclude={"grader"}) == dict.fromkeys(
        ("base", "seed", "item", "seed_item", "draw", "tie")
    )
    assert alone.variances.grader == pytest.approx(0.02)
    assert "one seed cannot tell" in alone.sentence
    same = np.ones((4, 20, 1))
    nothing = budget.budget(Number("x", False, by_seed(same), one_base(same), greedy=True))
    assert nothing.over_seeds.now is None


def test_graders_and_tie_rules_are_parts_that_nothing_buys_off() -> None:
    table = drawn(np.random.default_rng(6), (4, 20, 1), TRUE)
    plain = Number("x", False, by_seed(table), one_base(table), greedy=True)
    row = budget.budget(replace(plain, graders=[0.5, 0.6, 0.4], ties=[0.2, 0.3]))
    assert row.variances.grader == pytest.approx(0.01)
    assert row.variances.tie == pytest.approx(0.005)
    assert row.over_seeds == budget.budget(plain).over_seeds
    assert "the grader" in row.sentence
