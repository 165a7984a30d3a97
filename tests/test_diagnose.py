"""Credit methods in oracle worlds: what is claimed to be unbiased is, biases are matched by draws,
figures mean what they say.
"""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ccpo import credit
from ccpo.config import read_experiment
from ccpo.manifest import OracleManifest, PlannedMethod
from ccpo.oracle import claims, diagnose
from ccpo.oracle import world as oracle
from ccpo.oracle.diagnose import Assigned, Method, Worlds
from ccpo.oracle.world import FAMILIES, WeightedTrees, World
from ccpo.publish import statistics
from ccpo.tree import Plan


def method(
    label: str,
    name: str | None = None,
    *,
    nested: bool = False,
    critic_error: float = 0.0,
    raters: str = "informed",
    **params: Any,
) -> Method:
    name = name or label
    known = inspect.signature(credit.load(name).credit).parameters
    defaults = {k: p.default for k, p in known.items() if p.kind is p.KEYWORD_ONLY}
    return Method(label, name, defaults | params, nested, critic_error, raters)


METHODS = [
    method("shared"),
    method("magrpo"),
    method("mappo"),
    method("mappo_off", "mappo", critic_error=0.5),
    method("ccpo"),
    method("ccpo_paired", "ccpo", baseline="paired", bonus="difference"),
    method("ccpo_v1"),
    method("ccpo_v1_split", "ccpo_v1", history=False),
    method("sepo"),
    method("sepo_mended", "sepo", centre="apart", invalid="exclude"),
    method("sepo_careless", "sepo", raters="careless"),
    method("sepo_coin", "sepo", raters="coin"),
    method("c3", nested=True),
    method("c3_assisted", "c3", nested=True, variant="value_assisted"),
    method("c3_value_only", "c3", nested=True, variant="value_only"),
    method("ccpo_vote"),
    method("shapley"),
]
TREES = 20_000


@functools.cache
def world_of(family: str, shape: str) -> World:
    return oracle.build(family, shape, 0)


@functools.cache
def trees_of(family: str, shape: str, plan: Plan) -> tuple[WeightedTrees, WeightedTrees]:
    """All trees, and 20,000 drawn ones."""
    world = world_of(family, shape)
    drawn = oracle.sample_trees(world, plan, TREES, np.random.default_rng(7))
    return oracle.enumerate_trees(world, plan), drawn


def assigned(
    m: Method, family: str, shape: str, name: str
) -> tuple[World, Plan, Assigned, Assigned]:
    """Advantages of all trees and of drawn ones."""
    world = world_of(family, shape)
    plan = m.plan(shape)
    trees = trees_of(family, shape, Plan(plan.fanout, plan.removals))
    exact, drawn = diagnose.credited(m, world, plan, trees)
    limit = diagnose.limits(world, exact)
    return world, plan, limit.apply(name, exact), limit.apply(name, drawn)


def drawn_means(
    world: World, drawn: Assigned, turn: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean advantage by (context, message), its standard error with trees as the unit (ratio of two
    means), and the messages counted.
    """
    trees = drawn.trees
    c, m = world.logits[turn].shape
    rows = np.flatnonzero(trees.tree.factual & (trees.tree.turn == turn))
    cell = trees.tree.task[rows] * (c * m) + trees.context[rows] * m + trees.message[rows]
    n = np.bincount(cell, minlength=TREES * c * m).reshape(TREES, -1)
    total = np.bincount(cell, drawn.advantage[rows], TREES * c * m).reshape(TREES, -1)
    count = n.sum(0)
    mean = total.sum(0) / np.maximum(count, 1)
    error = np.sqrt(((total - mean * n) ** 2).sum(0)) / np.maximum(count, 1)
    return mean.reshape(c, m), error.reshape(c, m), count.reshape(c, m)


@pytest.mark.parametrize("shape", ["dyad", "chain", "vote"])
@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_thousand_trees_agree_with_the_enumeration(family: str, shape: str) -> None:
    """Every method, as credited and under a normaliser that biases it: each mean within 4 standard
    errors of the summed expectation.

    About 1,500 comparisons over all worlds, of which chance alone would put 0.08 beyond 4; the seed
    is fixed. Cells of fewer than 300
    messages are left out: their errors are not normal.
    """
    compared = 0
    for m in METHODS:
        try:
            m.plan(shape)
        except ValueError:
            continue
        for name in ("none", "group_z"):
            world, _, exact, drawn = assigned(m, family, shape, name)
            for turn in range(world.turns):
                want = diagnose.expectation(world, exact, turn)[0]
                mean, error, count = drawn_means(world, drawn, turn)
                enough = (count >= 300) & (error > 1e-12)
                assert np.abs((mean - want)[enough] / error[enough]).max(initial=0) < 4, (
                    m.label,
                    name,
                    turn,
                )
                still = (count >= 300) & (error <= 1e-12)  # what does not vary
                assert mean[still] == pytest.approx(want[still], abs=1e-9)
                compared += int(enough.sum())
    assert compared > 60


UNBIASED = [
    ("c3", "none", 1),
    ("mappo", "none", 1),
    ("c3_value_only", "none", 1),
    ("c3_assisted", "none", 1),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("label", "name", "scale"), UNBIASED)
def test_unbiased_at_every_depth_where_claimed(
    family: str, label: str, name: str, scale: float
) -> None:
    """Summed over all trees: E[advantage | context, message] = A*, to 1e-12."""
    m = next(m for m in METHODS if m.label == label)
    for shape in ("dyad", "chain"):
        world, _, exact, _ = assigned(m, family, shape, name)
        for turn in range(world.turns):
            mean = diagnose.expectation(world, exact, turn)[0]
            assert np.abs(mean - scale * oracle.advantage(world, turn)).max() < 1e-12


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shared_reward_is_unbiased_at_the_root_and_its_gradient_everywhere(family: str) -> None:
    """leave_one_out of signs: E = 2 A* at turn 0; later contexts differ inside a group, so E is
    not, but the gradient still is 2 dJ.

    Their difference's squared length is a sum that cancels, of weights whose rows need not sum to
    0; what float64 leaves of it is 1e-16 of its terms. It is compared with the terms of a credit of
    1 everywhere.
    """
    for shape in ("dyad", "chain", "vote"):
        world, _, exact, _ = assigned(METHODS[0], family, shape, "leave_one_out")
        for turn in range(world.turns):
            mean, _, mass = diagnose.expectation(world, exact, turn)
            gap = mass * mean - 2 * oracle.gradient(world, turn)
            gram = world.gram(turn)
            terms = diagnose.inner(mass, mass, abs(gram))
            assert diagnose.inner(gap, gap, gram) < 1e-15 * terms
            if turn == 0 or shape == "vote":
                assert np.abs(mean - 2 * oracle.advantage(world, turn)).max() < 1e-12
            elif family != "free_riding":
                assert np.abs(mean - 2 * oracle.advantage(world, turn)).max() > 0.01


def test_biases_that_are_known_show() -> None:
    """A z-score is no fixed multiple of A*; a paired vote's credit is, under leave_one_out; a
    critic half-way off is not.
    """
    figures = {}
    for label, shape, name in (
        ("c3", "dyad", "group_z"),
        ("c3_assisted", "dyad", "group_z"),
        ("mappo_off", "dyad", "none"),
    ):
        m = next(m for m in METHODS if m.label == label)
        world, plan, exact, drawn = assigned(m, "sabotage", shape, name)
        figures[label] = diagnose.measure(world, plan, exact, drawn, 1, 50)
    assert min(row["bias"] for row in figures.values()) > 1e-3
    vote = next(m for m in METHODS if m.label == "ccpo_vote")
    world, plan, exact, drawn = assigned(vote, "sabotage", "vote", "leave_one_out")
    assert diagnose.measure(world, plan, exact, drawn, 0, 50)["bias"] < 1e-12


def exact_advantage(world: World, trees: WeightedTrees) -> np.ndarray:
    """A* [M] of the messages of a dyad."""
    out = np.zeros(len(trees.tree))
    for turn in (0, 1):
        rows = trees.tree.turn == turn
        out[rows] = oracle.advantage(world, turn)[trees.context[rows], trees.message[rows]]
    return out


def test_measures_by_hand() -> None:
    """An advantage that is 3 A* + noise of variance 1: scale 3, no bias, variance 1/9, cosine 1,
    norm ratio 3.
    """
    world = world_of("necessity", "dyad")
    plan = Plan((2, 1))
    every, sample = trees_of("necessity", "dyad", plan)
    noise = np.random.default_rng(0).choice([-1.0, 1.0], len(sample.tree))
    exact, drawn = (Assigned(trees, 3 * exact_advantage(world, trees)) for trees in (every, sample))
    noisy = Assigned(sample, drawn.advantage + noise)
    row = diagnose.measure(world, plan, exact, noisy, 0, 100)
    assert row["scale"] == pytest.approx(3, abs=1e-12)
    assert row["norm_ratio"] == pytest.approx(3, abs=1e-12)
    assert row["cosine"] == pytest.approx(1, abs=1e-12)
    assert row["bias"] == pytest.approx(0, abs=1e-12)
    mass = diagnose.expectation(world, exact, 0)[2]
    size = np.sqrt((mass * oracle.advantage(world, 0) ** 2).sum())
    assert row["bias_raw"] == pytest.approx(2 * size)
    assert row["variance"] == pytest.approx(0, abs=1e-12)
    assert row["tokens"] == 4
    assert row["evaluator_calls"] == 2
    # a task's gradient is the mean of two messages: its noise is var(noise)/9 * E|e_a - pi|^2 / 2,
    # beside what A* itself varies
    clean = diagnose.measure(world, plan, exact, drawn, 0, 100)["noise_tokens"]
    policy = world.policy(0)
    mass = oracle.truth(world, 0)[2]
    length = (mass[:, None] * policy * ((np.eye(2)[None] - policy[:, None]) ** 2).sum(-1)).sum()
    extra = 4 * length / 9 / 2 / (oracle.gradient(world, 0) ** 2).sum()
    assert row["noise_tokens"] - clean == pytest.approx(extra, rel=0.05)


def test_costs_are_those_of_the_plan() -> None:
    dyad = world_of("necessity", "dyad")
    vote = world_of("necessity", "vote")
    by = {m.label: m for m in METHODS}
    assert diagnose.cost(dyad, by["shared"].plan("dyad")) == (8, 4)
    assert diagnose.cost(dyad, by["ccpo"].plan("dyad")) == (12, 8)
    assert diagnose.cost(dyad, by["sepo"].plan("dyad")) == (16, 4)
    assert diagnose.cost(dyad, by["c3"].plan("dyad")) == (10, 8)
    assert diagnose.cost(vote, by["ccpo_vote"].plan("vote")) == (9, 9)


def test_batch_normalisers_are_taken_in_their_limit() -> None:
    """batch_whiten of a large drawn batch is what `Limits` gives; gae leaves nothing that the
    context foretells.
    """
    from functions import batch_whiten

    m = METHODS[0]
    world, _, _, drawn = assigned(m, "redundancy", "dyad", "batch_whiten")
    value, group = credit.load("shared").credit(drawn.trees.tree)
    real = batch_whiten(value, group, np.ones(len(value)))
    assert np.abs(real - drawn.advantage).max() < 0.05
    _, _, exact, _ = assigned(m, "redundancy", "dyad", "gae")
    for turn in (0, 1):
        mean, _, mass = diagnose.expectation(world, exact, turn)
        assert np.abs((mass * mean).sum(1)).max() < 1e-12


def test_raters_do_what_is_declared() -> None:
    """Every case of what raters do is a task once, with its chance; drawn raters follow the same
    chances.
    """
    world = world_of("sabotage", "dyad")
    plan = Plan((2, 1))
    every, sample = trees_of("sabotage", "dyad", plan)
    coin = oracle.with_ratings(world, every, "coin")
    assert coin.chance.sum() == pytest.approx(1, abs=1e-12)
    assert len(coin.chance) == 4 * len(every.chance)
    last = coin.tree.episodes()[:, 1]
    assert coin.weight[last] @ (coin.tree.rating[last, 0] > 0.5) / 2 == pytest.approx(
        0.5, abs=1e-12
    )
    assert coin.weight[last] @ coin.tree.reward[last] / 2 == pytest.approx(
        oracle.value(world), abs=1e-12
    )
    summed = oracle.with_ratings(world, every, "careless")
    silence = np.isnan(summed.tree.rating[last, 0])
    assert summed.weight[last] @ silence / 2 == pytest.approx(0.3, abs=1e-12)
    careless = oracle.with_ratings(world, sample, "careless", np.random.default_rng(0)).tree
    silent = np.isnan(careless.rating[careless.episodes()[:, 0]]).all(1).mean()
    assert abs(silent - 0.3) < 4 * np.sqrt(0.3 * 0.7 / (2 * TREES))
    with pytest.raises(ValueError, match="smaller fan-out"):
        oracle.with_ratings(world, oracle.enumerate_trees(world, Plan((7, 1))), "coin")


def test_a_solo_sample_adds_its_variance() -> None:
    """Variance of (R - S) / 2 with its scale of 1/2 taken out, first agent: q (1 - q) + s (1 - s),
    never less than the outcome's own.
    """
    for family in FAMILIES:
        m = next(m for m in METHODS if m.label == "ccpo_v1_split")
        world, plan, exact, drawn = assigned(m, family, "dyad", "none")
        q, _, mass = oracle.truth(world, 0)
        assert world.alone is not None and world.alone_outcome is not None  # noqa: PT018
        s = (oracle.softmax(world.alone) * world.alone_outcome).sum(1)[:, None]
        want = (mass[:, None] * world.policy(0) * (q * (1 - q) + s * (1 - s))).sum()
        row = diagnose.measure(world, plan, exact, drawn, 0, 50)
        if row["scale"] != 1:  # where A* is 0 there is none to take out
            assert row["scale"] == pytest.approx(0.5, abs=1e-12)
            assert row["variance"] == pytest.approx(want, abs=1e-12)


def test_draws_would_show_a_bias() -> None:
    """A mean that is off by a twentieth, and one that ought not to vary, are both far out."""
    rng = np.random.default_rng(0)
    chance = np.full(4, 0.25)
    every = np.array([[[1.0, 2.0]], [[-1.0, 2.0]], [[1.0, 2.0]], [[-1.0, 2.0]]])
    drawn = every[rng.integers(0, 4, TREES)]
    worst, cells = diagnose.against_sample(every, chance, drawn)
    assert worst < 4
    assert cells == 2
    assert diagnose.against_sample(every, chance, drawn + np.array([0.05, 0.0]))[0] > 4
    assert diagnose.against_sample(every, chance, drawn + np.array([0.0, 0.001]))[0] > 1e6


def test_the_teams_gradient_and_the_outcomes_correlation() -> None:
    """c3 as given is A* in each turn, so its gradient is the team's; a full mean over 2 and 4
    siblings weighs the turns 1/2 to 3/4.
    """
    c3 = next(m for m in METHODS if m.label == "c3")
    world, _, exact, _ = assigned(c3, "necessity", "dyad", "none")
    assert diagnose.team_cosine(world, exact) == pytest.approx(1, abs=1e-12)
    full = method("c3_full", "c3", nested=True, baseline="full_mean")
    world, _, exact, _ = assigned(full, "necessity", "dyad", "none")
    size = [
        diagnose.inner(g, g, world.gram(t)) for t in (0, 1) for g in [oracle.gradient(world, t)]
    ]
    want = (size[0] / 2 + size[1] * 3 / 4) / np.sqrt(
        (size[0] / 4 + size[1] * 9 / 16) * (size[0] + size[1])
    )
    assert diagnose.team_cosine(world, exact) == pytest.approx(want, abs=1e-12)
    assert want < 0.999
    world, _, exact, _ = assigned(METHODS[0], "necessity", "dyad", "none")
    assert diagnose.outcome_correlation(exact, 1) == pytest.approx(1, abs=1e-12)
    nothing = Assigned(exact.trees, np.zeros_like(exact.advantage))
    assert diagnose.outcome_correlation(nothing, 1) == 0


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A small oracle experiment's experiment.json and diagnostics."""
    folder = tmp_path_factory.mktemp("oracle")
    chosen = ("shared", "ccpo", "c3", "ccpo_vote", "ccpo_v1")
    planned = OracleManifest(
        experiment="oracle",
        question="What is true?",
        note="",
        shapes=("dyad", "vote"),
        families=("free_riding",),
        advantages=("none", "group_mean"),
        methods=tuple(
            PlannedMethod(
                label=label,
                credit=label,
                params={},
                nested=False,
                critic_error=0.0,
                raters="informed",
            )
            for label in chosen
        ),
        instances=3,
        tokens=512,
        seed=0,
        config={},
    )
    planned.write(folder / "experiment.json")
    paths = []
    for family in planned.families:
        for shape in planned.shapes:
            rows, skipped = diagnose.diagnose(
                Worlds(family, shape, instances=3, seed=0),
                [m for m in METHODS if m.label in chosen],
                ["none", "group_mean"],
                tokens=512,
            )
            paths.append(folder / f"{family}.{shape}.parquet")
            diagnose.write(rows, skipped, paths[-1])
    return folder / "experiment.json", paths


def test_an_oracle_experiment_says_which_claims_hold(
    tables: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    experiment, paths = tables
    claims.compare(experiment=experiment, diagnostics=paths, stats=tmp_path / "stats.json")
    numbers = statistics.read_oracle(tmp_path / "stats.json")
    verdicts = {c.claim: c.verdict for c in numbers.claims}
    assert verdicts["C3's leave-one-out advantage is unbiased (arXiv 2603.06859)"] == "holds"
    assert verdicts["CCPO's credit is specific to the role"] == "does not hold"
    assert verdicts["leaving a voter out lowers variance (CCPO, votes)"] == "holds"
    cell = next(
        c
        for c in numbers.cells
        if (c.method, c.advantage, c.shape) == ("ccpo", "group_mean", "dyad")
    )
    # the solo samples are paid for, and teach nothing
    assert cell.noise_tokens_ratio is not None
    assert cell.noise_calls_ratio is not None
    assert cell.noise_tokens_ratio.mean == pytest.approx(12 / 8, rel=0.05)
    assert cell.noise_calls_ratio.mean == pytest.approx(2, rel=0.05)
    spread = {(r.method, r.advantage): r.mean for r in numbers.free_riding}
    assert spread["shared", "group_mean"] == pytest.approx(1, abs=1e-9)
    assert spread["c3", "none"] < 0.9
    assert ("ccpo_vote", "dyad") in [(s.method, s.shape) for s in numbers.skipped]
    assert numbers.sampled.worst < 4
    assert numbers.sampled.comparisons > 200
    assert numbers.summary.startswith(f"Of {len(verdicts)} claims, ")
    assert {c.family for c in numbers.cells} == {"all", "free_riding"}
    free_riding = next(c.numbers for c in numbers.claims if "mitigates" in c.claim)
    assert "so nothing is taught on average" in free_riding


def test_an_oracle_experiment_is_drawn_tabled_and_written(
    tables: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    from ccpo.publish import draw, figure, report
    from ccpo.publish import tables as made

    experiment, paths = tables
    stats = tmp_path / "stats.json"
    claims.compare(experiment=experiment, diagnostics=paths, stats=stats)
    names = figure.of_contents(figure.Contents("oracle"))
    for name in names:
        draw.draw(name, stats, tmp_path / f"{name}.svg", tmp_path / f"{name}.csv")
        assert len(pd.read_csv(tmp_path / f"{name}.csv")) > 5
    made.write(stats, tmp_path / "main.csv")
    assert len(pd.read_csv(tmp_path / "main.csv")) == len(statistics.read_oracle(stats).cells)
    drawn = [tmp_path / f"{name}.svg" for name in names]
    files = report.Files(stats, experiment, drawn, tmp_path / "main.csv")
    report.write(files, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "does not hold" in page
    assert page.count("<svg") == len(names)
    assert "needs a team that votes" in page


def test_the_shipped_oracle_experiment_covers_every_method() -> None:
    shipped = read_experiment("credit_truth")
    used = {m.credit.name for m in shipped.methods.values()}  # type: ignore[union-attr]
    assert used == set(credit.names()) - {"none"}


def test_a_gradient_of_length_zero_is_no_error() -> None:
    """Rounding may put a squared length below 0; where a message changes nothing it is 0, and so is
    what is relative to it.
    """
    assert diagnose.length(np.ones((1, 2)), np.array([[0.0, -1e-18], [-1e-18, 0.0]])) == 0
    rows, _ = diagnose.diagnose(
        Worlds("free_riding", "chain", instances=2, seed=0), METHODS[:1], ["none"], tokens=512
    )
    first = [row for row in rows if row["turn"] == 0]
    assert [row["norm_ratio"] for row in first] == [row["noise_tokens"] for row in first] == [0, 0]
