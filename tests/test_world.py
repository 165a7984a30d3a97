"""Oracle worlds: sums against loops over every episode, gradients against finite differences, trees
against probabilities.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from ccpo.config import OracleExperiment
from ccpo.oracle import world as oracle
from ccpo.oracle.world import FAMILIES, SHAPES, World, build
from ccpo.team import vote_outcome
from ccpo.tree import Plan, Removal

KINDS = list(itertools.product(FAMILIES, SHAPES))


def episodes(world: World) -> list[tuple[float, int, tuple[int, ...], float]]:
    """Chance, question, messages and outcome of every episode, by a loop."""
    out = []
    for x in range(len(world.weight)):
        for messages in itertools.product(*(range(rows.shape[1]) for rows in world.logits)):
            chance = world.weight[x]
            for t, a in enumerate(messages):
                row = world.logits[t][world.context[t][(x, *messages[:t])]]
                chance *= np.exp(row[a]) / np.exp(row).sum()
            out.append((float(chance), x, messages, float(world.outcome[(x, *messages)])))
    return out


@pytest.mark.parametrize(("family", "shape"), KINDS)
def test_values_and_advantages_by_brute_force(family: str, shape: str) -> None:
    world = build(family, shape, 1)
    every = episodes(world)
    assert sum(p for p, *_ in every) == pytest.approx(1, abs=1e-12)
    assert oracle.value(world) == pytest.approx(sum(p * r for p, _, _, r in every), abs=1e-12)
    for turn in range(world.turns):
        q, v, mass = oracle.truth(world, turn)
        for c, a in itertools.product(*map(range, world.logits[turn].shape)):
            own_context = [
                (p, r, messages[turn])
                for p, x, messages, r in every
                if world.context[turn][(x, *messages[:turn])] == c
            ]
            total = sum(p for p, *_ in own_context)
            assert mass[c] == pytest.approx(total, abs=1e-12)
            assert v[c] == pytest.approx(sum(p * r for p, r, _ in own_context) / total, abs=1e-12)
            own = [(p, r) for p, r, m in own_context if m == a]
            assert q[c, a] == pytest.approx(
                sum(p * r for p, r in own) / sum(p for p, _ in own), abs=1e-12
            )
        star = oracle.advantage(world, turn)
        assert (star * world.policy(turn)).sum(1) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("family", "shape"), KINDS)
def test_gradient_by_finite_differences(family: str, shape: str) -> None:
    world = build(family, shape, 2)
    step = 1e-5
    for turn in range(world.turns):
        exact = oracle.gradient(world, turn)
        for cell in np.ndindex(*exact.shape):
            values = []
            for sign in (1, -1):
                rows = world.logits[turn].copy()
                rows[cell] += sign * step
                logits = (*world.logits[:turn], rows, *world.logits[turn + 1 :])
                values.append(oracle.value(replace(world, logits=logits)))
            assert exact[cell] == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-8)


def test_the_gram_matrix_of_logits_by_hand() -> None:
    """Two contexts with pi = (1/2, 1/2) and (1/4, 3/4): scores (1/2, -1/2), (-1/2, 1/2) and (3/4,
    -3/4), (-1/4, 1/4).
    """
    world = replace(build("necessity", "dyad", 0), logits=(np.log([[0.5, 0.5], [0.25, 0.75]]),))
    score = np.array([[0.5, -0.5], [-0.5, 0.5], [0.75, -0.75], [-0.25, 0.25]])
    want = score @ score.T
    want[:2, 2:] = want[2:, :2] = 0
    assert world.gram(0) == pytest.approx(want, abs=1e-12)


def test_families_show_what_they_are_named_for() -> None:
    for seed in range(5):
        idle = build("free_riding", "chain", seed)
        assert np.abs(oracle.advantage(idle, 0)).max() < 1e-12
        assert np.abs(oracle.advantage(idle, 1)).max() < 1e-12
        assert np.abs(oracle.advantage(idle, 2)).max() > 0.1
        need = build("necessity", "dyad", seed)
        spare = build("redundancy", "dyad", seed)
        assert oracle.without(need, 0) == 0
        assert 0 < oracle.without(spare, 0) < oracle.value(spare)
        poison = build("sabotage", "dyad", seed)
        q = oracle.truth(poison, 0)[0]
        assert (q[:, 1] == 0).all()  # the poison
        assert (poison.policy(0)[:, 1] < 0.5).all()
        vote = build("free_riding", "vote", seed)
        gains = [oracle.value(vote) - oracle.without(vote, k) for k in range(3)]
        assert gains[2] < min(gains[:2])
        assert oracle.value(build("sabotage", "vote", seed)) < oracle.without(
            build("sabotage", "vote", seed), 2
        )
        strong = build("redundancy", "vote", seed)
        weak = build("necessity", "vote", seed)
        assert oracle.value(strong) > 0.8 > 0.6 > oracle.value(weak)


def test_leaving_a_voter_out_by_brute_force() -> None:
    world = build("sabotage", "vote", 3)
    for k in range(3):
        total = 0.0
        for p, _, messages, _ in episodes(world):
            total += (
                p
                * vote_outcome(
                    np.array([[a for i, a in enumerate(messages) if i != k]]), oracle.TIE
                )[0]
            )
        assert oracle.without(world, k) == pytest.approx(total, abs=1e-12)
    with pytest.raises(ValueError, match="does not say what is left"):
        oracle.without(build("necessity", "chain", 0), 1)


@pytest.mark.parametrize(
    ("shape", "plan"),
    [
        ("dyad", Plan((2, 2), (Removal(0, 2),))),
        ("dyad", Plan((3, 1))),
        ("chain", Plan((2, 2, 1))),
        ("vote", Plan((2, 1, 1))),
    ],
)
def test_all_trees_are_there_once_with_their_chances(shape: str, plan: Plan) -> None:
    world = build("necessity", shape, 4)
    trees = oracle.enumerate_trees(world, plan)
    slots = oracle.slots(world, plan)
    assert trees.chance.sum() == pytest.approx(1, abs=1e-12)
    assert len(
        np.unique(
            np.c_[trees.context.reshape(-1, len(slots)), trees.message.reshape(-1, len(slots))],
            axis=0,
        )
    ) == len(trees.chance)
    tree = trees.tree
    leaf = tree.leaf & tree.factual
    for turn in range(world.turns):  # every message's chance is that of the policy
        of_turn = tree.factual & (tree.turn == turn)
        q, _, mass = oracle.truth(world, turn)
        n = of_turn.sum() / len(trees.chance)
        for c, a in np.ndindex(*q.shape):
            cell = of_turn & (trees.context == c) & (trees.message == a)
            assert trees.weight[cell].sum() / n == pytest.approx(
                mass[c] * world.policy(turn)[c, a], abs=1e-12
            )
            assert (trees.weight[cell] @ tree.reward[cell]) / trees.weight[
                cell
            ].sum() == pytest.approx(q[c, a], abs=1e-12)
    assert trees.weight[leaf] @ tree.reward[leaf] / plan.episodes == pytest.approx(
        oracle.value(world), abs=1e-12
    )
    if plan.removals:
        solo = ~tree.factual
        assert trees.weight[solo] @ tree.reward[solo] / 2 == pytest.approx(
            oracle.without(world, 0), abs=1e-12
        )


def test_drawn_trees_follow_the_same_chances() -> None:
    """Frequencies of contexts and messages in 20,000 trees against their probabilities, 4 standard
    errors.
    """
    for shape, plan in (
        ("dyad", Plan((2, 2), (Removal(0, 2),))),
        ("chain", Plan((2, 1, 1))),
        ("vote", Plan((2, 1, 1))),
    ):
        world = build("redundancy", shape, 5)
        trees = oracle.sample_trees(world, plan, 20_000, np.random.default_rng(0))
        for turn in range(world.turns):
            of_turn = trees.tree.factual & (trees.tree.turn == turn)
            first = np.flatnonzero(of_turn)[
                :: int(of_turn.sum() / 20_000)
            ]  # one message a tree: independent
            for c, a in np.ndindex(*world.logits[turn].shape):
                p = oracle.truth(world, turn)[2][c] * world.policy(turn)[c, a]
                share = ((trees.context[first] == c) & (trees.message[first] == a)).mean()
                assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / 20_000)


def test_estimates_and_ratings_are_the_truth_they_claim_to_be() -> None:
    world = build("sabotage", "dyad", 6)
    trees = oracle.enumerate_trees(world, Plan((2, 1)))
    exact = oracle.with_estimates(world, trees, "message", 0.0).tree
    half = oracle.with_estimates(world, trees, "message", 0.5).tree
    last = exact.turn == 1
    # after the last message the outcome is known
    assert np.array_equal(exact.value[last], exact.reward[last])
    assert half.value == pytest.approx((exact.value + oracle.value(world)) / 2, abs=1e-12)
    context = oracle.with_estimates(world, trees, "context", 0.0).tree
    assert len(np.unique(context.value[context.turn == 0])) == len(world.weight)
    rated = oracle.with_ratings(world, trees).tree
    assert np.isfinite(rated.rating).all()
    paths = rated.episodes()
    star = [
        np.abs(oracle.advantage(world, t)[trees.context[paths[:, t]], trees.message[paths[:, t]]])
        for t in (0, 1)
    ]
    share = star[0] / (star[0] + star[1])
    assert np.abs(rated.rating[paths[:, 0], 0] - np.clip(share, 0.1, 0.9)).max() <= 0.05 + 1e-9


def test_what_cannot_be_enumerated_says_so() -> None:
    world = build("necessity", "dyad", 0)
    with pytest.raises(ValueError, match="smaller fan-out"):
        oracle.enumerate_trees(world, Plan((16, 1)))
    with pytest.raises(ValueError, match="not known"):
        build("anarchy", "dyad", 0)
    with pytest.raises(ValueError, match="without agent 1"):
        oracle.slots(world, Plan((2, 1), (Removal(1, 2),)))


def test_the_config_names_the_same_worlds() -> None:
    fields = OracleExperiment.model_fields
    assert set(fields["families"].annotation.__args__[0].__args__) == set(FAMILIES)  # type: ignore[union-attr]
    assert set(fields["shapes"].annotation.__args__[0].__args__) == {*SHAPES, "language"}  # type: ignore[union-attr]
