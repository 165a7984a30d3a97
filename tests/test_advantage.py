"""Baselines against loops, reductions and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccpo.learn.advantage import ADVANTAGES, EPS, group_mean, group_z, leave_one_out, role_information


def slow(name: str, c: np.ndarray, g: np.ndarray) -> np.ndarray:
    """One message at a time."""
    out = np.zeros(len(c))
    for i in range(len(c)):
        if g[i] < 0:
            continue
        mine = c[g == g[i]]
        others = np.delete(c, i)[np.delete(g, i) == g[i]]
        out[i] = {
            "none": c[i],
            "group_mean": c[i] - mine.mean(),
            "group_z": (c[i] - mine.mean()) / (mine.std() + EPS),
            "leave_one_out": c[i] - others.mean() if len(others) else 0.0,
        }[name]
    return out


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_equals_the_loop(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    c, g = rng.normal(size=25), rng.integers(-1, 5, 25)
    assert ADVANTAGES[name](c, g) == pytest.approx(slow(name, c, g), abs=1e-9)


@pytest.mark.parametrize("name", ["group_mean", "group_z", "leave_one_out"])
def test_a_shift_of_a_group_changes_nothing(name: str) -> None:
    rng = np.random.default_rng(0)
    c, g = rng.normal(size=40), rng.integers(0, 5, 40)
    assert ADVANTAGES[name](c + g * 3.0, g) == pytest.approx(ADVANTAGES[name](c, g), abs=1e-9)


def test_leave_one_out_is_a_scaled_group_mean() -> None:
    c, g = np.random.default_rng(1).normal(size=24), np.repeat(np.arange(4), 6)
    assert leave_one_out(c, g) == pytest.approx(6 / 5 * group_mean(c, g), abs=1e-12)
    assert group_z(leave_one_out(c, g), g) == pytest.approx(group_z(c, g), abs=1e-6)


def test_role_information_is_what_a_regression_leaves() -> None:
    rng = np.random.default_rng(2)
    shared, own, g = rng.normal(size=60), rng.normal(size=60), np.repeat(np.arange(6), 10)
    assert role_information(3 * shared + 1 + g, shared, g) < 1e-24
    assert role_information(np.zeros(60), shared, g) == 0
    left = whole = 0.0
    for k in range(6):
        x, y = shared[g == k], own[g == k]
        fit = np.polyval(np.polyfit(x, y, 1), x)
        left, whole = left + ((y - fit) ** 2).sum(), whole + ((y - y.mean()) ** 2).sum()
    assert role_information(own, shared, g) == pytest.approx(left / whole, abs=1e-12)
