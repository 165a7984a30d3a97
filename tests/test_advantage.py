"""Baselines against loops, reductions and properties."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import conforming
from functions import ADVANTAGES, batch_whiten, gae, group_mean, group_z, history, leave_one_out
from hypothesis import given, settings
from hypothesis import strategies as st

from ccpo import advantage
from ccpo.advantage import Messages, role_information
from ccpo.advantage.history import remember


def slow(name: str, c: np.ndarray, g: np.ndarray, t: np.ndarray) -> np.ndarray:
    """One message at a time."""
    out = np.zeros(len(c))
    every = np.repeat(c[g >= 0], t[g >= 0])
    for i in range(len(c)):
        if g[i] < 0:
            continue
        group = c[g == g[i]]
        others = np.delete(c, i)[np.delete(g, i) == g[i]]
        out[i] = {
            "none": c[i],
            "group_mean": c[i] - group.mean(),
            "group_z": (c[i] - group.mean()) / (group.std() + 1e-8),
            "leave_one_out": c[i] - others.mean() if len(others) else 0.0,
            "batch_whiten": (c[i] - every.mean()) / np.sqrt(every.var(ddof=1) + 1e-8),
            "history": (c[i] - 0.3) / (0.5 + 1e-6),
            "gae": c[i] - 0.1 * i,
        }[name]
    return out


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_every_advantage_keeps_the_contract(name: str) -> None:
    """Each complaint says what is missing and how to write it; ccpo/advantage/__init__.py is the
    contract.
    """
    conforming(advantage, name)
    where = f"ccpo/advantage/{name}.py"
    rng = np.random.default_rng(0)
    c = rng.normal(size=12)
    g = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, -1, -1, -1])
    values = advantage.compute(
        name, Messages(c, g, np.ones(12, int), np.zeros(12)), {"mean": 0.0, "variance": 1.0}
    )
    assert values.shape == (12,), (
        f"{where}: advantage gives the shape {values.shape} for 12 messages. Remedy: one number "
        "for each message"
    )
    assert (values[g < 0] == 0).all(), (
        f"{where}: messages that are not trained get {values[g < 0]}. Remedy: 0 outside "
        "messages.trained"
    )


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_equals_the_loop(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    c = rng.normal(size=25)
    g = rng.integers(-1, 5, 25)
    t = rng.integers(1, 9, 25)
    more = {
        "history": {"memory": {"mean": 0.3, "variance": 0.25}},
        "gae": {"value": 0.1 * np.arange(25)},
    }
    assert ADVANTAGES[name](c, g, t, **more.get(name, {})) == pytest.approx(
        slow(name, c, g, t), abs=1e-9
    )


@pytest.mark.parametrize("name", ["group_mean", "group_z", "leave_one_out"])
def test_a_shift_of_a_group_changes_nothing(name: str) -> None:
    rng = np.random.default_rng(0)
    c = rng.normal(size=40)
    g = rng.integers(0, 5, 40)
    t = np.ones(40, int)
    assert ADVANTAGES[name](c + g * 3.0, g, t) == pytest.approx(ADVANTAGES[name](c, g, t), abs=1e-9)


def test_leave_one_out_is_a_scaled_group_mean() -> None:
    c = np.random.default_rng(1).normal(size=24)
    g = np.repeat(np.arange(4), 6)
    assert leave_one_out(c, g) == pytest.approx(6 / 5 * group_mean(c, g), abs=1e-12)
    assert group_z(leave_one_out(c, g), g) == pytest.approx(group_z(c, g), abs=1e-6)


def test_role_information_is_what_a_regression_leaves() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(size=60)
    own = rng.normal(size=60)
    g = np.repeat(np.arange(6), 10)
    assert role_information(3 * shared + 1 + g, shared, g) < 1e-24
    assert role_information(np.zeros(60), shared, g) == 0
    left = whole = 0.0
    for k in range(6):
        x = shared[g == k]
        y = own[g == k]
        fit = np.polyval(np.polyfit(x, y, 1), x)
        left = left + ((y - fit) ** 2).sum()
        whole = whole + ((y - y.mean()) ** 2).sum()
    assert role_information(own, shared, g) == pytest.approx(left / whole, abs=1e-12)


def test_the_z_scores_of_the_papers() -> None:
    """Four outcomes 1, 0, 0, 0 by hand: mean 1/4, population variance 3/16, sample variance 1/4."""
    c = np.array([1.0, 0, 0, 0])
    g = np.zeros(4, int)
    assert group_z(c, g, eps_inside=True)[0] == 0.75 / np.sqrt(3 / 16 + 1e-8)  # C3, MAGRPO
    assert group_z(c, g, ddof=1, eps=1e-6)[0] == 0.75 / (0.5 + 1e-6)  # CCPO v1, verl
    assert group_z(np.ones(1), np.zeros(1, int), ddof=1, eps=1e-6) == 0


def test_batch_whitening_has_mean_0_and_variance_1_over_tokens_and_keeps_difficulty() -> None:
    rng = np.random.default_rng(3)
    c = rng.normal(size=50)
    g = np.repeat(np.arange(5), 10)
    t = rng.integers(1, 20, 50)
    every = np.repeat(batch_whiten(c, g, t), t)
    assert every.mean() == pytest.approx(0, abs=1e-12)
    assert every.var(ddof=1) == pytest.approx(1, abs=1e-6)
    assert np.abs(batch_whiten(c + g, g, t) - batch_whiten(c, g, t)).max() > 0.5
    assert (batch_whiten(np.ones(1), np.zeros(1, int), np.ones(1, int)) == 0).all()


def test_history_is_the_moving_statistics_of_earlier_batches() -> None:
    """Worked by hand: batches of mean 1 and 3, population variance 1 and 4, decay 0.9."""
    g = np.zeros(2, int)
    first = remember(Messages(np.array([0.0, 2.0]), g), {}, decay=0.9)
    assert first == {"mean": 1.0, "variance": 1.0}
    second = remember(Messages(np.array([1.0, 5.0]), g), first, decay=0.9)
    assert second == pytest.approx({"mean": 1.2, "variance": 1.3}, abs=1e-12)
    c = np.array([1.0, 5.0])
    assert np.array_equal(history(c, g, memory={}), c)  # nothing is known yet
    assert history(c, g, memory=first) == pytest.approx((c - 1) / (1 + 1e-6), abs=1e-12)
    # no spread: sigma is 1
    assert history(c, g, memory={"mean": 1.0, "variance": 0.0}) == pytest.approx(c - 1, abs=1e-5)
    # nothing trained, nothing learnt
    assert remember(Messages(np.ones(2), np.full(2, -1)), first) == first


def test_history_cancels_under_a_z_score_of_the_group() -> None:
    rng = np.random.default_rng(8)
    c = rng.normal(size=60)
    g = np.repeat(np.arange(10), 6)
    calibrated = history(c, g, memory={"mean": 0.4, "variance": 2.0})
    assert group_z(calibrated, g) == pytest.approx(group_z(c, g), abs=1e-6)


def test_gae_refuses_messages_without_a_value() -> None:
    with pytest.raises(ValueError, match="message 1 has no value"):
        gae(np.ones(3), np.array([0, 0, -1]), value=np.array([0.5, np.nan, np.nan]))


def test_unit_message_counts_every_message_once() -> None:
    c = np.array([1.0, 3.0])
    g = np.zeros(2, int)
    t = np.array([1, 99])
    assert batch_whiten(c, g, t, unit="message") == pytest.approx([-(0.5**0.5), 0.5**0.5], abs=1e-6)
    assert batch_whiten(c, g, t)[1] == pytest.approx(0.1, abs=1e-2)
