"""Credit methods: conformance over every file, worked numbers, and the identities that decide what
they can teach.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from types import ModuleType

import numpy as np
import pytest
from conftest import conforming
from functions import ADVANTAGES, GROUPED, group_mean, group_z, leave_one_out

from ccpo import credit
from ccpo.advantage import role_information
from ccpo.credit import c3, ccpo, ccpo_v1, ccpo_vote, magrpo, mappo, shapley, shared
from ccpo.team import load, vote_outcome
from ccpo.tree import Plan, Structure, Tree, make_tree


def dyads(rng: np.random.Generator, tasks: int, n: int, solos: int) -> Tree:
    """Flat Thinker-Solver episodes with random outcomes, and solo episodes of the Solver."""
    rows = []
    reward = []
    for task in range(tasks):
        p, q = rng.random(2)
        for _ in range(n):
            rows += [(task, -1, 0, 0, -1), (task, len(rows), 1, 1, -1)]
            reward += [0.0, float(rng.random() < p)]
        for _ in range(solos):
            rows.append((task, -1, 1, 1, 0))
            reward.append(float(rng.random() < q))
    task, parent, turn, agent, removed = np.array(rows).T
    reward = np.array(reward)
    return make_tree(
        Structure(task=task, parent=parent, turn=turn, agent=agent, removed=removed),
        leaf_reward=reward,
        answer=np.where(reward > 0, 0, 1),
    )


def votes(answers: np.ndarray, tie: str = "wrong") -> Tree:
    """Flat voting episodes [tasks, episodes, voters] of answer classes."""
    rows = []
    reward = []
    answer = []
    for task, episodes in enumerate(answers):
        for episode in episodes:
            for k, vote in enumerate(episode):
                rows.append((task, len(rows) - 1 if k else -1, k, k, -1))
                reward.append(vote_outcome(episode[None], tie)[0])
                answer.append(vote)
    task, parent, turn, agent, removed = np.array(rows).T
    return make_tree(
        Structure(task=task, parent=parent, turn=turn, agent=agent, removed=removed),
        leaf_reward=np.array(reward),
        answer=np.array(answer),
    )


def nested(outcome: np.ndarray) -> Tree:
    """Trees of agents who follow each other, from the outcomes [tasks, first messages, second
    messages below each, ...] of their leaves.
    """
    rows: list[tuple[int, int, int, int, int]] = []
    reward: list[float] = []

    def grow(task: int, parent: int, turn: int, below: np.ndarray) -> None:
        for branch in below:
            rows.append((task, parent, turn, turn, -1))
            reward.append(float(branch) if branch.ndim == 0 else 0.0)
            if branch.ndim:
                grow(task, len(rows) - 1, turn + 1, branch)

    for task, families in enumerate(outcome):
        grow(task, -1, 0, families)
    task, parent, turn, agent, removed = np.array(rows).T
    leaf = np.array(reward)
    return make_tree(
        Structure(task=task, parent=parent, turn=turn, agent=agent, removed=removed),
        leaf_reward=leaf,
        answer=np.where(leaf > 0, 0, 1),
    )


def played(team: str, fanout: tuple[int, ...], rng: np.random.Generator) -> Tree:
    """Five tasks of a team with random outcomes, values and ratings. Flat dyads have solo episodes
    of the Solver too.
    """
    if team == "vote":
        tree = votes(rng.integers(-1, 3, (5, fanout[0], 3)))
    elif fanout == (4, 1):
        tree = dyads(rng, 5, 4, 4)
    else:
        tree = nested(rng.integers(0, 2, (5, *fanout)))
    share = rng.integers(1, 10, len(tree)) / 10
    return dataclasses.replace(
        tree, value=rng.random(len(tree)), rating=np.stack([share, 1 - share], 1)
    )


# Teams and fan-outs in which a method is tried; one that has no meaning in any is a mistake.
TEAMS = [
    ("think_solve", (4, 1)),
    ("think_solve", (2, 4)),
    ("vote", (4, 1, 1)),
    ("reasoner_actor_verifier", (4, 1, 1)),
    ("reasoner_actor_verifier", (2, 2, 2)),
]


@pytest.mark.parametrize("name", credit.names())
def test_every_method_keeps_the_contract(name: str) -> None:
    """Each complaint says what is missing and how to write it; ccpo/credit/__init__.py is the
    contract.
    """
    module = conforming(credit, name)
    reasons = []
    for team, fanout in TEAMS:
        try:
            wanted = module.plan(load(team).team(), fanout, **defaults(module))
        except ValueError as error:
            reasons.append(f"{team}: {error}")
            continue
        where = f"ccpo/credit/{name}.py, team {team}, fan-out {list(fanout)}"
        assert isinstance(wanted, Plan), (
            f"{where}: plan() gives {wanted!r}. Remedy: a ccpo.tree.Plan, as in Plan(fanout)"
        )
        tree = played(team, fanout, np.random.default_rng(0))
        if wanted.removals and tree.factual.all():
            continue  # this tree has no counterfactual
        keeps_the_contract(where, module, tree)
        tells_when_it_is_degenerate(where, module, tree)
    assert len(reasons) < len(TEAMS), (
        f"ccpo/credit/{name}.py: plan() refuses every team: {reasons}. Remedy: a Plan where the "
        "method has a meaning, ValueError elsewhere"
    )


def test_methods_for_agents_who_follow_each_other_are_tried_with_three() -> None:
    """Those that have no dyad built in."""
    trio = load("reasoner_actor_verifier").team()
    fits = set()
    for name in credit.names():
        module = credit.load(name)
        for fanout in ((4, 1, 1), (2, 2, 2)):
            try:
                module.plan(trio, fanout, **defaults(module))
            except ValueError:
                continue
            fits.add((name, fanout))
    flat = {"shared", "magrpo", "mappo", "none"}
    assert fits == {(name, (4, 1, 1)) for name in flat} | {
        (name, (2, 2, 2)) for name in {*flat, "c3"}
    }


def defaults(module: ModuleType) -> dict[str, object]:
    """A method's parameters as they are if nobody sets them."""
    return {
        n: p.default
        for n, p in inspect.signature(module.credit).parameters.items()
        if p.kind is p.KEYWORD_ONLY
    }


def keeps_the_contract(where: str, module: ModuleType, tree: Tree) -> None:
    value, group = module.credit(tree)
    assert value.shape == group.shape == (len(tree),), (
        f"{where}: credit() gives the shapes {value.shape} and {group.shape} for {len(tree)} "
        "messages. Remedy: a credit and a group for each message of the tree"
    )
    assert np.isfinite(value).all(), (
        f"{where}: credit() gives {value[~np.isfinite(value)][0]} to message "
        f"{int(np.flatnonzero(~np.isfinite(value))[0])}. Remedy: finite numbers; ValueError where "
        "there is none to give"
    )
    assert (group[~tree.factual] == -1).all(), (
        f"{where}: counterfactual messages are in a group. Remedy: group -1 where tree.factual is "
        "False, as ccpo.credit.sibling_groups gives"
    )
    assert (value[group < 0] == 0).all(), (
        f"{where}: messages that are not trained (group -1) have a credit. Remedy: 0 there, as in "
        "np.where(tree.factual, ..., 0.0)"
    )
    again = module.credit(tree)
    same = np.array_equal(value, again[0]) and np.array_equal(group, again[1])
    assert same, (
        f"{where}: credit() of the same tree is another one. Remedy: no randomness and no state; "
        "what is remembered goes through remember()"
    )
    for g in np.unique(group[group >= 0]):
        tasks = np.unique(tree.task[group == g])
        agents = np.unique(tree.agent[group == g])
        assert len(tasks) == len(agents) == 1, (
            f"{where}: group {g} holds the tasks {tasks} and agents {agents}. Remedy: one task and "
            "one agent, as ccpo.credit.sibling_groups gives"
        )


def tells_when_it_is_degenerate(where: str, module: ModuleType, tree: Tree) -> None:
    """Where it says that algebra leaves nothing beyond the shared reward, role information is 0,
    and more than 0 elsewhere.
    """
    value, group = module.credit(tree)
    reason = module.degenerate("group", **defaults(module))
    for name in GROUPED:
        normalise = ADVANTAGES[name]
        share = np.where(tree.factual, 2 * tree.reward - 1, 0.0)
        information = role_information(normalise(value, group), normalise(share, group), group)
        if reason or module is shared:
            assert information < 1e-12, (
                f"{where}: degenerate() says {reason!r}, but {information:.2g} of the variance "
                f'under {name} is not the shared reward\'s. Remedy: "" where that is so'
            )
        else:
            assert information > 1e-3, (
                f"{where}: under {name} the advantage is an image of the shared reward's, and "
                'degenerate("group") says nothing. Remedy: a sentence that says why, by algebra'
            )


def test_a_paired_baseline_is_noise_that_the_shared_reward_does_not_explain() -> None:
    assert "1.1 times" in ccpo.degenerate("group", lam=0.2, baseline="group", bonus="event")
    assert ccpo.degenerate("group", lam=0.2, baseline="paired", bonus="event") == ""
    assert ccpo.degenerate("batch", lam=0.2, baseline="group", bonus="event") == ""
    tree = dyads(np.random.default_rng(7), 200, 8, 8)
    value, group = ccpo.credit(tree, baseline="paired")
    same = group_mean(shared.credit(tree)[0], group)
    assert role_information(group_mean(value, group), same, group) > 1e-3


def test_shared_is_the_sign_of_the_outcome() -> None:
    tree = dyads(np.random.default_rng(1), 20, 4, 2)
    value, _ = shared.credit(tree)
    for i in range(len(tree)):
        leaf = i + 1 if tree.turn[i] == 0 else i
        assert value[i] == ((1 if tree.reward[leaf] else -1) if tree.removed[i] == -1 else 0)


def brute_ccpo(r: np.ndarray, s: np.ndarray, lam: float, baseline: str, bonus: str) -> np.ndarray:
    """research formulas 1a, one episode at a time."""
    out = []
    for i in range(len(r)):
        b = s.mean() if baseline == "group" else s[i]
        event = (1 if r[i] > 0 and b < 0 else 0) - (1 if r[i] < 0 and b > 0 else 0)
        out.append(r[i] + lam * (event if bonus == "event" else (r[i] - b) / 2))
    return np.array(out)


@pytest.mark.parametrize(
    ("baseline", "bonus"), itertools.product(["group", "paired"], ["event", "difference"])
)
def test_ccpo_equals_the_formula_episode_by_episode(baseline: str, bonus: str) -> None:
    tree = dyads(np.random.default_rng(2), 50, 6, 6)
    value, _ = ccpo.credit(tree, lam=0.3, baseline=baseline, bonus=bonus)
    for task in range(50):
        of_task = tree.task == task
        r = 2 * tree.reward[of_task & tree.factual & (tree.agent == 1)] - 1
        s = 2 * tree.reward[of_task & ~tree.factual] - 1
        assert value[of_task & (tree.agent == 0)] == pytest.approx(
            brute_ccpo(r, s, 0.3, baseline, bonus), abs=1e-12
        )
        assert value[of_task & tree.factual & (tree.agent == 1)] == pytest.approx(r, abs=0)


def test_ccpo_with_group_baseline_is_the_shared_reward_times_a_constant() -> None:
    """Identity of the default: A_ccpo = (1 + lam/2) A_shared to 1e-12 on 10,000 groups (factor 1
    where the solo samples tie).
    """
    lam = 0.2
    tree = dyads(np.random.default_rng(3), 10_000, 8, 8)
    value, group = ccpo.credit(tree, lam=lam)
    centred_ccpo = group_mean(value, group)
    same = group_mean(shared.credit(tree)[0], group)
    solo = np.bincount(tree.task[~tree.factual], 2 * tree.reward[~tree.factual] - 1)
    tied = solo[tree.task] == 0
    thinker = tree.factual & (tree.agent == 0)
    assert tied.any()
    assert np.abs(centred_ccpo - (1 + lam / 2) * same)[thinker & ~tied].max() < 1e-12
    assert np.abs(centred_ccpo - same)[thinker & tied].max() < 1e-12
    assert np.abs(same[thinker]).max() > 0.5  # not the identity of two zeros
    difference = group_mean(ccpo.credit(tree, lam=lam, bonus="difference")[0], group)
    assert np.abs(difference - (1 + lam / 2) * same)[thinker].max() < 1e-12
    # EPS of the z-score
    assert np.abs(group_z(value, group) - group_z(shared.credit(tree)[0], group)).max() < 1e-6
    assert role_information(centred_ccpo[thinker], same[thinker], tree.task[thinker]) < 1e-20


def test_vote_credit_is_no_affine_image_of_the_shared_reward() -> None:
    rng = np.random.default_rng(4)
    tree = votes(rng.choice([-1, 0, 1, 2], p=[0.1, 0.5, 0.25, 0.15], size=(10_000, 8, 3)))
    value, group = ccpo_vote.credit(tree, tie="wrong")
    information = role_information(
        group_mean(value, group), group_mean(shared.credit(tree)[0], group), group
    )
    assert 0.1 < information < 1


@pytest.mark.parametrize(("tie", "t", "t3"), [("wrong", 0.0, 0.0), ("uniform", 0.5, 1 / 3)])
def test_vote_table_of_the_paper(tie: str, t: float, t3: float) -> None:
    """The table of Delta by pattern, for a 1-1 tie worth t and a three-way tie worth t3 (0 =
    correct, 1 and 2 = distinct wrong).
    """
    table = {
        (0, 0, 0): (0, 0, 0),
        (0, 0, 1): (1 - t, 1 - t, 0),
        (0, 1, 1): (0, -t, -t),
        (0, 1, 2): (t3, t3 - t, t3 - t),
        (1, 1, 2): (0, 0, 0),
    }
    for pattern, delta in table.items():
        value, _ = ccpo_vote.credit(votes(np.array([[pattern]]), tie), tie=tie)
        assert value == pytest.approx(delta, abs=1e-12), pattern


def test_vote_table_when_the_first_of_the_tied_decides() -> None:
    """By hand, voter by voter: who is left decides a 1-1 tie by who speaks first."""
    table = {
        (0, 0, 0): (0, 0, 0),
        (0, 0, 1): (0, 0, 0),  # whoever goes, a correct one speaks first
        (1, 0, 0): (0, 1, 1),
        (0, 1, 0): (1, 0, 0),
        (0, 1, 1): (0, -1, -1),
        (1, 1, 0): (0, 0, 0),
        (1, 0, 1): (-1, 0, 0),
        (0, 1, 2): (1, 0, 0),  # three-way: the first is right
        (1, 0, 2): (-1, 0, 0),
        (1, 1, 2): (0, 0, 0),
    }
    for pattern, delta in table.items():
        value, _ = ccpo_vote.credit(votes(np.array([[pattern]]), "first"), tie="first")
        assert value == pytest.approx(delta, abs=1e-12), pattern


def test_vote_outcome_by_brute_force() -> None:
    for pattern in itertools.product([-1, 0, 1, 2], repeat=4):
        counts = {a: pattern.count(a) for a in dict.fromkeys(pattern) if a >= 0}
        best = [a for a, c in counts.items() if c == max(counts.values())] if counts else []
        want = {
            "wrong": float(best == [0]),
            "uniform": (0 in best) / max(len(best), 1),
            "first": float(bool(best) and best[0] == 0),
        }
        for tie, value in want.items():
            assert vote_outcome(np.array([pattern]), tie)[0] == pytest.approx(value), (pattern, tie)


def test_methods_refuse_teams_that_they_mean_nothing_for() -> None:
    with pytest.raises(ValueError, match="two agents"):
        ccpo.plan(load("vote").team(), (4, 1, 1))
    with pytest.raises(ValueError, match="votes"):
        ccpo_vote.plan(load("think_solve").team(), (4, 1))
    with pytest.raises(ValueError, match="lam=-1"):
        ccpo.credit(dyads(np.random.default_rng(0), 2, 2, 2), lam=-1)


def test_c3_worked_tree() -> None:
    """The 2x4 tree 1,0,0,1 | 1,1,1,0 in six forms: two baselines and the z-score, for both roles
    (research c3.md 1.4).
    """
    tree = nested(np.array([[[1, 0, 0, 1], [1, 1, 1, 0]]]))
    first = tree.turn == 0
    second = tree.turn == 1
    value, group = c3.credit(tree)
    assert value[first] == pytest.approx([-0.25, 0.25], abs=1e-12)
    assert value[second] == pytest.approx(
        [2 / 3, -2 / 3, -2 / 3, 2 / 3, 1 / 3, 1 / 3, 1 / 3, -1], abs=1e-12
    )
    mean, same = c3.credit(tree, baseline="full_mean")
    assert np.array_equal(group, same)
    assert mean[first] == pytest.approx([-0.125, 0.125], abs=1e-12)
    assert mean[second] == pytest.approx([0.5, -0.5, -0.5, 0.5, 0.25, 0.25, 0.25, -0.75], abs=1e-12)
    for centred in (value, mean):
        z = group_z(centred, group)
        assert z[first] == pytest.approx([-1, 1], abs=1e-6)
        assert z[second] == pytest.approx([1, -1, -1, 1, *[3**-0.5] * 3, -(3**0.5)], abs=1e-6)
    assert np.abs(group_z(value, group) - group_z(mean, group)).max() < 1e-6


def test_c3_on_ragged_trees_by_brute_force() -> None:
    """Siblings with unequal numbers of leaves: the mean of the others' leaves, leaf by leaf."""
    rng = np.random.default_rng(5)
    for _ in range(50):
        sizes = rng.integers(1, 5, rng.integers(1, 5))
        rows = []
        reward = []
        leaves = []
        for size in sizes:
            head = len(rows)
            rows.append((0, -1, 0, 0, -1))
            drawn = rng.integers(0, 2, size).astype(float)
            rows += [(0, head, 1, 1, -1)] * int(size)
            reward += [0.0, *drawn]
            leaves.append(drawn)
        task, parent, turn, agent, removed = np.array(rows).T
        answer = np.zeros(len(rows), int)
        tree = make_tree(
            Structure(task=task, parent=parent, turn=turn, agent=agent, removed=removed),
            leaf_reward=np.array(reward),
            answer=answer,
        )
        value, _ = c3.credit(tree)
        for j, own in enumerate(leaves):
            others = [r for k, drawn in enumerate(leaves) if k != j for r in drawn]
            want = own.mean() - np.mean(others) if others else 0.0
            assert value[turn == 0][j] == pytest.approx(want, abs=1e-12)


def test_c3_refuses_messages_without_siblings() -> None:
    with pytest.raises(ValueError, match=r"turn 1 none"):
        c3.plan(load("think_solve").team(), (8, 1))


def test_magrpo_of_the_official_code() -> None:
    """r = 1, 0, 0, 1 in one group: mean and norm +-1, mean +-1/2, rloo +-2/3."""
    tree = nested(np.array([[[1], [0], [0], [1]]]))
    signs = np.array([1, 1, -1, -1, -1, -1, 1, 1])
    value, group = magrpo.credit(tree)
    for advantages, size in (
        (group_z(value, group, eps_inside=True), 1),
        (group_mean(value, group), 1 / 2),
        (leave_one_out(value, group), 2 / 3),
    ):
        assert advantages == pytest.approx(size * signs, abs=1e-6)


def test_magrpo_is_the_shared_reward_under_a_z_score() -> None:
    tree = nested(np.array([[[r] for r in (1, 0, 0, 1, 1, 1, 1, 0)]]))
    value, group = magrpo.credit(tree)
    z = group_z(value, group)
    high = 0.375 / (15 / 64) ** 0.5
    low = -0.625 / (15 / 64) ** 0.5
    assert z[tree.turn == 1] == pytest.approx(
        [high, low, low, high, high, high, high, low], abs=1e-6
    )
    assert np.array_equal(z[tree.turn == 0], z[tree.turn == 1])  # one joint action
    assert z == pytest.approx(group_z(shared.credit(tree)[0], group), abs=1e-6)


@pytest.mark.parametrize("tie", ["wrong", "uniform", "first"])
def test_shapley_by_all_orders_of_arrival(tie: str) -> None:
    rng = np.random.default_rng(6)
    for pattern in rng.integers(-1, 3, (40, 4)):
        value, _ = shapley.credit(votes(pattern[None, None], tie), tie=tie)
        want = np.zeros(4)
        for order in itertools.permutations(range(4)):
            before = 0.0
            for i in range(4):
                now = vote_outcome(pattern[None, sorted(order[: i + 1])], tie)[0]
                want[order[i]] += (now - before) / 24
                before = now
        assert value == pytest.approx(want, abs=1e-12)
        # efficiency
        assert value.sum() == pytest.approx(vote_outcome(pattern[None], tie)[0], abs=1e-12)


def test_shapley_of_three_voters_by_hand() -> None:
    """Two correct votes against one wrong, ties worth nothing: v(c) = 1, v(cc) = 1, v(cw) = 0,
    v(ccw) = 1.
    """
    value, _ = shapley.credit(votes(np.array([[[0, 0, 1]]])), tie="wrong")
    assert value == pytest.approx([2 / 3, 2 / 3, -1 / 3], abs=1e-12)


def valued(tree: Tree, value: np.ndarray) -> Tree:
    return dataclasses.replace(tree, value=np.asarray(value, float))


def test_step_gae_of_the_official_code() -> None:
    """Reference vector of research c3.md 10: r = 0, 1, 0, 0; V = .4, .7, .4, .2; two episodes of
    two messages.
    """
    tree = valued(nested(np.array([[[1], [0]]])), [0.4, 0.7, 0.4, 0.2])
    value, _ = mappo.credit(tree)
    assert value == pytest.approx([0.6, 0.3, -0.4, -0.2], abs=1e-12)
    assert value + tree.value == pytest.approx([1, 1, 0, 0], abs=1e-12)  # returns


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 0.8), (1.0, 0.0)])
def test_step_gae_by_the_sum_of_its_definition(gamma: float, lam: float) -> None:
    rng = np.random.default_rng(9)
    rows = []
    reward = []
    for task in range(20):
        for turn in range(3):
            rows.append((task, len(rows) - 1 if turn else -1, turn, turn, -1))
            reward.append(float(rng.integers(0, 2)))
    task, parent, turn, agent, removed = np.array(rows).T
    tree = make_tree(
        Structure(task=task, parent=parent, turn=turn, agent=agent, removed=removed),
        leaf_reward=np.array(reward),
        answer=np.zeros(60, int),
    )
    tree = valued(tree, rng.random(60))
    value, _ = mappo.credit(tree, gamma=gamma, lam=lam)
    for e in range(20):
        v = [*tree.value[3 * e : 3 * e + 3], 0.0]
        r = [0, 0, reward[3 * e + 2]]
        delta = [r[k] + gamma * v[k + 1] - v[k] for k in range(3)]
        want = [sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, 3)) for t in range(3)]
        assert value[3 * e : 3 * e + 3] == pytest.approx(want, abs=1e-12)


def test_mappo_in_a_tree_follows_the_mean_of_its_branches_and_needs_a_critic() -> None:
    rng = np.random.default_rng(10)
    tree = valued(nested(rng.integers(0, 2, (5, 2, 4))), rng.random(50))
    value, _ = mappo.credit(tree)
    assert value == pytest.approx(tree.reward - tree.value, abs=1e-12)  # gamma = lam = 1
    with pytest.raises(ValueError, match="message 0 has no value"):
        mappo.credit(nested(np.ones((1, 2, 2))))


def test_c3_value_variants() -> None:
    """The worked tree with a critic's estimates: value_assisted under a z-score is that of r + q /
    (n - 1) (research c3.md 1.4).
    """
    tree = nested(np.array([[[1, 0, 0, 1], [1, 1, 1, 0]]]))
    q = np.array([0.3, 0.9, 0.2, 0.1, 0.6, 0.8, 0.7, 0.5, 0.4, 0.05])
    tree = valued(tree, q)
    only, group = c3.credit(tree, variant="value_only")
    assert only[tree.turn == 0] == pytest.approx([0.3 - 0.8, 0.8 - 0.3], abs=1e-12)
    assisted, _ = c3.credit(tree, variant="value_assisted")
    n = np.bincount(group)[group]
    optimistic = tree.reward + q / (n - 1)
    assert group_z(assisted, group) == pytest.approx(group_z(optimistic, group), abs=1e-6)
    half, _ = c3.credit(tree, variant="value_assisted", alpha=0.5)
    assert half == pytest.approx((assisted + c3.credit(tree)[0]) / 2, abs=1e-12)
    plain, _ = c3.credit(tree, variant="value_assisted", baseline="full_mean")
    # "no loo" takes the bonus away
    assert group_z(plain, group) == pytest.approx(group_z(c3.credit(tree)[0], group), abs=1e-6)
    with pytest.raises(ValueError, match="no value of a critic"):
        c3.credit(nested(np.ones((1, 2, 2))), variant="value_only")
    assert c3.plan(load("reasoner_actor").team(), (2, 4), variant="value_only").critic == "message"


def one_dyad_task(joint: list[int], solo: list[int]) -> Tree:
    """One task: thoughts and answers with these joint outcomes, then solo answers with these."""
    rows = [row for k in range(len(joint)) for row in ((0, -1, 0, 0, -1), (0, 2 * k, 1, 1, -1))] + [
        (0, -1, 1, 1, 0)
    ] * len(solo)
    reward = np.array([x for r in joint for x in (0, r)] + solo, float)
    task, parent, turn, agent, removed = np.array(rows).T
    return make_tree(
        Structure(task=task, parent=parent, turn=turn, agent=agent, removed=removed),
        leaf_reward=reward,
        answer=np.where(reward > 0, 0, 1),
    )


def test_ccpo_v1_normaliser_by_hand() -> None:
    """Statistics: difference mu 0.1, V 0.49; joint mu 0.5, V 0.25; solo mu 0.4, V 0.16. Rollouts R
    = 1, 0 against S = 0, 1.
    """
    tree = one_dyad_task([1, 0], [0, 1])
    memory = {"samples": 256.0, "difference_mean": 0.1, "difference_variance": 0.49}
    memory |= {"joint_mean": 0.5, "joint_variance": 0.25, "solo_mean": 0.4, "solo_variance": 0.16}
    value, _ = ccpo_v1.credit(tree, memory, eps=1e-12)
    gate = 1 / (1 + np.exp(-0.1 / 0.7))
    assert value[0] == pytest.approx(np.tanh(0.9 / 0.7), abs=1e-9)
    assert value[2] == pytest.approx(np.tanh(-1.1 / 0.7), abs=1e-9)
    assert value[1] == pytest.approx(gate * 1.0 + (1 - gate) * -1.0, abs=1e-9)
    assert value[3] == pytest.approx(gate * -1.0 + (1 - gate) * 1.5, abs=1e-9)
    assert (value[4:] == 0).all()
    start, _ = ccpo_v1.credit(tree)  # nothing seen: the raw difference and the raw outcome
    assert start == pytest.approx([1, 1, -1, 0, 0, 0], abs=0)


def test_ccpo_v1_shapley_split_and_truncation() -> None:
    tree = one_dyad_task([1, 1, 0, 0], [1, 0, 1, 0])
    value, _ = ccpo_v1.credit(tree, history=False)
    thinker = value[[0, 2, 4, 6]]
    solver = value[[1, 3, 5, 7]]
    assert thinker == pytest.approx([0, 0.5, -0.5, 0], abs=0)
    assert solver == pytest.approx([1, 0.5, 0.5, 0], abs=0)
    assert thinker + solver == pytest.approx([1, 1, 0, 0], abs=0)  # efficiency
    cut = dataclasses.replace(tree, truncated=np.arange(len(tree)) == 3)
    assert ccpo_v1.credit(cut, history=False)[0][3] == 0
    assert ccpo_v1.credit(cut, history=False, mask_unfinished=False)[0][3] == 0.5


def test_ccpo_v1_remembers_moving_statistics() -> None:
    params = {
        n: p.default
        for n, p in inspect.signature(ccpo_v1.credit).parameters.items()
        if p.kind is p.KEYWORD_ONLY
    } | {"decay": 0.9}
    first = ccpo_v1.remember(one_dyad_task([1, 1, 0, 0], [0, 0, 0, 0]), {}, **params)
    assert first["joint_mean"] == first["difference_mean"] == 0.5
    assert first["joint_variance"] == 0.25
    assert first["solo_variance"] == 0
    second = ccpo_v1.remember(one_dyad_task([1, 1, 1, 1], [1, 1, 0, 0]), first, **params)
    assert second["samples"] == 8
    assert second["joint_mean"] == pytest.approx(0.9 * 0.5 + 0.1, abs=1e-12)
    assert second["joint_variance"] == pytest.approx(0.9 * 0.25, abs=1e-12)
    assert second["solo_mean"] == pytest.approx(0.05, abs=1e-12)


def test_history_nearly_cancels_under_the_z_score_that_follows() -> None:
    """G = 4 as in v1, fair coins: identical where a group has two values of the difference, below
    0.04 where it has three (research ccpo.md 1c; what is left grows with the mean difference).
    """
    rng = np.random.default_rng(11)
    tree = dyads(rng, 5000, 4, 4)
    memory = {"samples": 256.0, "difference_mean": 0.02, "difference_variance": 0.5}
    memory |= {"joint_mean": 0.5, "joint_variance": 0.25, "solo_mean": 0.45, "solo_variance": 0.2}
    with_history, group = ccpo_v1.credit(tree, memory)
    raw, _ = ccpo_v1.credit(tree)
    first = tree.factual & (tree.agent == 0)
    gap = (
        np.abs(
            group_z(with_history, group, ddof=1, eps=1e-6) - group_z(raw, group, ddof=1, eps=1e-6)
        )[first]
        .reshape(-1, 4)
        .max(1)
    )
    values = np.array([len(set(four)) for four in raw[first].reshape(-1, 4)])
    assert gap[values == 2].max() < 1e-4
    assert 1e-3 < gap[values == 3].max() < 0.04


ALONE = ["shared", "magrpo", "c3", "mappo"]


@pytest.mark.parametrize("name", credit.names())
def test_one_agent_reduces_every_method_to_single_agent_grpo(name: str) -> None:
    """(r - mean) / std of the outcomes for each method that a team of one has a meaning for; the
    others say that it has none.
    """
    module = credit.load(name)
    rng = np.random.default_rng(12)
    if name not in [*ALONE, "none"]:
        with pytest.raises(ValueError, match=name):
            module.plan(load("single").team(), (8,))
        return
    if name == "none":
        return
    r = rng.integers(0, 2, (30, 8)).astype(float)
    zero = np.zeros(240, int)
    one = np.repeat(np.arange(30), 8)
    tree = make_tree(
        Structure(task=one, parent=zero - 1, turn=zero, agent=zero, removed=zero - 1),
        leaf_reward=r.reshape(-1),
        answer=zero,
    )
    tree = valued(tree, rng.random(30)[one])  # a critic that reads the question
    assert module.plan(load("single").team(), (8,), **defaults(module)).episodes == 8
    want = (r - r.mean(1, keepdims=True)) / (r.std(1, keepdims=True) + 1e-8)
    advantages = group_z(*module.credit(tree))
    assert advantages == pytest.approx(want.reshape(-1), abs=1e-6)
