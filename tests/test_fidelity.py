"""Fidelity, variance, calibration and influence of credit against truth, where truth is summed: on
tables drawn from oracle worlds. And what the published definitions make of the same tables.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest

from ccpo import team as teams
from ccpo.evaluate.probing import as_published, fidelity
from ccpo.evaluate.probing.drawing import ancestors
from ccpo.evaluate.probing.fidelity import Draws, Method
from ccpo.evaluate.probing.influence import influence
from ccpo.oracle import diagnose
from ccpo.oracle import world as oracle
from ccpo.oracle.world import World
from ccpo.team import Team, vote_outcome


@dataclass(frozen=True)
class Table:
    """A probe of a world: draws, the messages drawn as candidates [C, n], and the truth of each:
    exact advantage, probability that the team is right [C, n].
    """

    team: Team
    draws: Draws
    message: np.ndarray
    star: np.ndarray
    right: np.ndarray


def team_of(shape: str) -> Team:
    name, params = diagnose.TEAMS[shape]
    built: Team = teams.load(name).team(**params)
    return built


def drawn(
    world: World, shape: str, turn: int, contexts: int, n: int = 8, m: int = 8, seed: int = 0
) -> Table:
    """A probe of a turn of a world, as ccpo/evaluate/probing/drawing.py draws one from a team."""
    rng = np.random.default_rng([seed, turn])
    team = team_of(shape)
    each = 4 if ancestors(team, turn) else 1
    tasks = contexts // each
    later = [t for t in range(world.turns) if t != turn and t not in ancestors(team, turn)]
    replays = m if later else 1
    size = (tasks * each, n, replays)
    question = np.repeat(rng.choice(len(world.weight), tasks, p=world.weight), each)
    spoken: dict[int, np.ndarray] = {}
    for before in ancestors(team, turn):
        path = (question, *(spoken[t] for t in range(before)))
        spoken[before] = pick(world, before, world.context[before][path], rng)
    full = {t: np.broadcast_to(values[:, None, None], size) for t, values in spoken.items()}
    asked = np.broadcast_to(question[:, None, None], size)
    if world.answer == "vote":
        context = question
    else:
        context = world.context[turn][(question, *(spoken[t] for t in range(turn)))]
    candidates = pick(world, turn, np.repeat(context[:, None], n, 1), rng)
    full[turn] = np.broadcast_to(candidates[:, :, None], size)
    for after in later:
        rows = (
            asked
            if world.answer == "vote"
            else world.context[after][(asked, *(full[t] for t in range(after)))]
        )
        full[after] = pick(world, after, rows, rng)
    reward = world.outcome[(asked, *(full[t] for t in range(world.turns)))]
    none = np.zeros((*size, 0), int)
    votes = np.stack([full[t] for t in range(world.turns)], -1) if world.answer == "vote" else none
    if world.answer == "vote":
        reward = vote_outcome(votes.reshape(-1, world.turns), oracle.TIE).reshape(size)
    q, _, _ = oracle.truth(world, turn)
    rows = np.repeat(context[:, None], n, 1)
    return Table(
        team,
        Draws(
            turn,
            np.repeat(np.arange(tasks), each),
            reward,
            (reward < 1).astype(int),
            votes,
            np.zeros((tasks, 0)),
            ancestors(team, turn),
        ),
        candidates,
        oracle.advantage(world, turn)[rows, candidates],
        q[rows, candidates],
    )


def pick(world: World, turn: int, context: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A message of each context."""
    below = rng.random(context.shape)[..., None] > world.policy(turn)[context].cumsum(-1)
    return np.minimum(below.sum(-1), world.logits[turn].shape[1] - 1)


def beside(values: np.ndarray) -> np.ndarray:
    """Values [C, n] in the order of both halves of the candidates."""
    return np.concatenate([values[:, 0::2], values[:, 1::2]], axis=1)


def measured(table: Table, method: Method) -> tuple[np.ndarray, fidelity.MethodProbe]:
    """Credits of both halves, and what is measured of them."""
    rng = np.random.default_rng(0)
    pair = fidelity.halves(table.draws)
    credits = np.concatenate([fidelity.estimate(table.team, h.seen, method) for h in pair], 1)
    of = fidelity.target(pair, rng)
    return credits, fidelity.measure(credits, of, (method.label, 0), rng)


CASES = [
    ("necessity", "dyad", 0),
    ("necessity", "dyad", 1),
    ("redundancy", "dyad", 0),
    ("sabotage", "dyad", 1),
    ("necessity", "chain", 1),
    ("redundancy", "chain", 2),
    ("necessity", "vote", 0),
    ("necessity", "vote", 2),
]


@pytest.mark.parametrize(("family", "shape", "turn"), CASES)
def test_the_exact_advantage_has_fidelity_one(family: str, shape: str, turn: int) -> None:
    """And slope 1, and the variance of the exact advantage: tolerance of 3,000 contexts."""
    table = drawn(oracle.build(family, shape, 0), shape, turn, 4000)
    rng = np.random.default_rng(0)
    of = fidelity.target(fidelity.halves(table.draws), rng)
    row = fidelity.measure(beside(table.star), of, ("exact", 0), rng)
    assert row.fidelity == pytest.approx(1.0, abs=0.05)
    assert row.slope == pytest.approx(1.0, abs=0.06)
    assert row.variance == pytest.approx(1.0, abs=0.12)
    assert of.signal == pytest.approx(table.star.var(), rel=0.12)
    assert row.correlation < 0.99  # the target alone is noisier
    assert all(a.target < b.target for a, b in itertools.pairwise(row.bins))


@pytest.mark.parametrize(("family", "shape", "turn"), CASES)
@pytest.mark.parametrize("name", ["shared", "c3", "ccpo_vote", "shapley"])
def test_fidelity_is_the_correlation_with_the_exact_advantage(
    family: str, shape: str, turn: int, name: str
) -> None:
    """Which a run's probe cannot know, and a world's can."""
    table = drawn(oracle.build(family, shape, 1), shape, turn, 3000)
    able, left_out = fidelity.methods(table.team, table.draws)
    if name in {row.method for row in left_out}:
        assert (shape == "vote") == (name == "c3")
        return
    method = next(method for method in able if method.credit == name)
    credits, row = measured(table, method)
    truth = np.corrcoef(credits.reshape(-1), beside(table.star).reshape(-1))[0, 1]
    assert row.fidelity == pytest.approx(truth, abs=0.05)
    assert row.p < 0.01
    assert row.floor is not None
    assert row.floor < 0.1


def test_many_replays_bring_an_unbiased_estimator_to_the_ceiling_and_few_do_not() -> None:
    world = oracle.build("necessity", "dyad", 0)
    few = measured(drawn(world, "dyad", 0, 1000), Method("c3", "nested"))[1]
    many = measured(drawn(world, "dyad", 0, 200, n=32, m=64), Method("c3", "nested, all replays"))[
        1
    ]
    assert few.fidelity is not None
    assert many.fidelity is not None
    assert few.fidelity < 0.75
    assert many.fidelity == pytest.approx(1.0, abs=0.05)


def test_the_published_fidelity_is_one_whatever_the_credit_is_worth() -> None:
    """By algebra, on the same table, where there are few replays and where nothing is to be told
    apart.
    """
    for family in ("necessity", "free_riding"):
        table = drawn(oracle.build(family, "dyad", 0), "dyad", 0, 200, m=4)
        texts = np.full(table.draws.reward.shape, "")
        rows = list(as_published.diagnostics(table.draws.reward, texts))
        for row in rows:
            if row.definition.startswith("fidelity"):
                assert row.value == pytest.approx(1.0, abs=1e-9)
    # whereas a message that changes nothing has no fidelity to speak of
    assert measured(table, Method("c3", "nested"))[1].fidelity is None


def test_where_the_truth_is_zero_fidelity_is_rarely_claimed() -> None:
    world = oracle.build("free_riding", "dyad", 0)
    claimed = 0
    for seed in range(60):
        table = drawn(world, "dyad", 0, 32, seed=seed)
        rng = np.random.default_rng(seed)
        claimed += fidelity.target(fidelity.halves(table.draws), rng).clear
    assert claimed <= 9  # 5 % of 60 is 3; 9 or more has chance 0.002


def test_credit_drawn_by_lot_stays_below_the_floor() -> None:
    world = oracle.build("necessity", "dyad", 0)
    table = drawn(world, "dyad", 0, 64)
    rng = np.random.default_rng(0)
    of = fidelity.target(fidelity.halves(table.draws), rng)
    rows = [
        fidelity.measure(rng.normal(size=table.star.shape), of, ("lot", 0), rng) for _ in range(60)
    ]
    above = sum(abs(r.fidelity or 0.0) > (r.floor or 0.0) for r in rows)
    assert above <= 9
    assert sum(row.p < 0.05 for row in rows) <= 9


def small(reward: np.ndarray, task: list[int], turn: int) -> Draws:
    return Draws(
        turn,
        np.array(task),
        reward,
        (reward < 1).astype(int),
        np.zeros((*reward.shape, 0), int),
        np.zeros((len(set(task)), 0)),
        tuple(range(turn)),
    )


def test_credit_on_trees_is_that_of_the_formulas() -> None:
    """Shared flat: 2 R less the mean of the episodes; C3 in pairs: Q less the sibling's Q; C3
    whole: Q less the others' mean.
    """
    dyad = teams.load("think_solve").team()
    reward = np.random.default_rng(0).integers(0, 2, (3, 4, 4)).astype(float)
    first = small(reward, [0, 1, 2], 0)
    single = 2 * reward[:, :, 0] - 1
    expected = single - single.mean(1, keepdims=True)
    assert fidelity.estimate(dyad, first, Method("shared", "flat")) == pytest.approx(expected)
    two = reward[:, :, :2].mean(2)
    pairs = two - two[:, [1, 0, 3, 2]]
    assert fidelity.estimate(dyad, first, Method("c3", "nested")) == pytest.approx(pairs)
    whole = reward.mean(2)
    others = (whole.sum(1, keepdims=True) - whole) / 3
    all_replays = fidelity.estimate(dyad, first, Method("c3", "nested, all replays"))
    assert all_replays == pytest.approx(whole - others)
    # four contexts of one task, nothing follows: flat episodes meet each context once
    last = small(reward[:, :, :1].repeat(2, 0)[:4], [0, 0, 1, 1], 1)
    single = 2 * last.reward[:, :, 0] - 1
    means = np.repeat(single.reshape(2, 2, 4).mean(1), 2, 0)
    assert fidelity.estimate(dyad, last, Method("shared", "flat")) == pytest.approx(single - means)
    own = last.reward[:, :, 0]
    siblings = (own.sum(1, keepdims=True) - own) / 3
    assert fidelity.estimate(dyad, last, Method("c3", "nested")) == pytest.approx(own - siblings)


def test_episodes_without_the_first_agent_reach_the_method() -> None:
    """CCPO's bonus under the group's solo baseline: (1 + lam / 2) times the shared credit."""
    dyad = teams.load("think_solve").team()
    reward = np.random.default_rng(1).integers(0, 2, (5, 4, 4)).astype(float)
    without = small(reward, [0, 1, 2, 3, 4], 0)
    solo = Draws(**{**without.__dict__, "solo": np.zeros((5, 4))})
    assert "ccpo" in {m.credit for m in fidelity.methods(dyad, solo)[0]}
    assert "ccpo" in {row.method for row in fidelity.methods(dyad, without)[1]}
    shared = fidelity.estimate(dyad, solo, Method("shared", "flat"))
    assert fidelity.estimate(dyad, solo, Method("ccpo", "flat")) == pytest.approx(1.1 * shared)


# -- influence


def coins(n: int, m: int, contexts: int, faces: int = 2) -> np.ndarray:
    return np.random.default_rng([n, m]).integers(0, faces, (contexts, n, m))


@pytest.mark.parametrize(("faces", "m"), [(2, 4), (2, 8), (5, 8)])
def test_influence_on_coin_flips_is_zero_within_its_noise(faces: int, m: int) -> None:
    flips = coins(8, m, 400, faces)
    row = influence(flips, np.arange(400), np.random.default_rng(0))
    assert abs(row.value) < 3 * row.error
    assert row.error < 0.02
    assert row.p > 0.01
    assert row.plug_in > 0.04  # what counting alone would have said


def test_influence_claims_no_more_than_its_level_on_coin_flips() -> None:
    rng = np.random.default_rng(0)
    p = [influence(rng.integers(0, 2, (16, 8, 4)), np.arange(16), rng).p < 0.05 for _ in range(60)]
    assert sum(p) <= 9


@pytest.mark.parametrize("shape", ["dyad", "chain"])
def test_a_team_that_does_not_listen_has_no_influence(shape: str) -> None:
    table = drawn(oracle.build("free_riding", shape, 0), shape, 0, 200)
    row = influence(table.draws.answer, table.draws.task, np.random.default_rng(0))
    assert abs(row.value) < 3 * row.error
    assert row.p > 0.01
    # whereas the published definition at the published setting (n = 4, C = 8) says 0.187 and more
    paper = drawn(oracle.build("free_riding", shape, 0), shape, 0, 2000, n=4, m=2)
    assert as_published.influence_of_outcomes(paper.draws.reward) > 0.187


@pytest.mark.parametrize(
    ("family", "shape"), [("necessity", "dyad"), ("redundancy", "dyad"), ("necessity", "vote")]
)
def test_influence_is_the_information_that_the_candidates_have(family: str, shape: str) -> None:
    """Against the sum over the candidates that were drawn, whose chances are known."""
    world = oracle.build(family, shape, 0)
    table = drawn(world, shape, 0, 600, m=32)
    answer = table.draws.answer
    if shape == "vote":  # ties pay a share: the class is whether the team is right for sure
        answer = (table.draws.reward < 1).astype(int)
        chance = np.stack([sure(world, table, c) for c in range(len(answer))])
    else:
        chance = table.right
    mean = chance.mean(1)
    truth = float((bits(mean) - bits(chance).mean(1)).mean())
    row = influence(answer, table.draws.task, np.random.default_rng(0))
    assert truth > 0.02
    assert row.value == pytest.approx(truth, abs=0.02)
    assert row.p < 0.01


def sure(world: World, table: Table, context: int) -> np.ndarray:
    """Chance [n] that a vote is right beyond doubt, for each candidate of voter 0 in a context: the
    sum over the two other votes, whose chances are those of the context's question.
    """
    others = [world.policy(t) for t in (1, 2)]
    chances = np.zeros((len(world.weight), world.logits[0].shape[1]))
    for own, a, b in itertools.product(range(3), repeat=3):
        whole = vote_outcome(np.array([[own, a, b]]), oracle.TIE)[0] == 1
        chances[:, own] += whole * others[0][:, a] * others[1][:, b]
    # the question is known by the truth of what was drawn
    q, _, _ = oracle.truth(world, 0)
    question = int(np.abs(q[:, table.message[context]] - table.right[context]).sum(1).argmin())
    return chances[question, table.message[context]]


def bits(chance: np.ndarray) -> np.ndarray:
    """Entropy in nats of a yes or no."""
    inside = np.clip(chance, 1e-12, 1 - 1e-12)
    return np.asarray(-inside * np.log(inside) - (1 - inside) * np.log(1 - inside))


# -- as published: numbers that the official code gave


@pytest.mark.parametrize(
    ("symbols", "value"),
    [
        (coins(8, 1, 2000), 0.568),
        (coins(8, 8, 2000), 0.060),
        (coins(8, 1, 2000, 4), 1.023),
        (np.tile(np.arange(8)[None, :, None], (200, 1, 1)), 1.698),
        (np.arange(1600).reshape(200, 8, 1), 0.045),
        (np.zeros((200, 8, 1), int), 0.0),
    ],
)
def test_the_published_influence_is_that_of_the_official_code(
    symbols: np.ndarray, value: float
) -> None:
    texts = symbols.astype(str)
    assert as_published.influence_of_texts(texts) == pytest.approx(value, abs=0.006)


def test_the_published_influence_of_outcomes_is_its_bias_on_coin_flips() -> None:
    """Against the sum over all outcomes of two flips for each of four candidates."""
    expected = 0.0
    for heads in itertools.product(range(3), repeat=4):
        chance = math.prod(math.comb(2, k) / 4 for k in heads)
        q = np.array(heads) / 2
        expected += chance * float(bits(np.array(q.mean())) - bits(q).mean())
    flips = coins(4, 2, 20_000).astype(float)
    assert as_published.influence_of_outcomes(flips) == pytest.approx(expected, abs=0.004)
    assert as_published.stated_bias(flips.shape) == 0.1875
    assert expected > 0.1875


def test_the_published_variance_is_scaled_by_the_baseline_and_not_by_the_credit() -> None:
    reward = coins(8, 4, 100).astype(float)
    texts = np.full(reward.shape, "")
    rows = {
        row.method: row.value
        for row in as_published.diagnostics(reward, texts)
        if row.definition.startswith("variance")
    }
    assert rows["c3"] / rows["magrpo"] == pytest.approx((8 / 7) ** 2)
