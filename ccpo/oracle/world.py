"""Oracle worlds: teams small enough that every value, advantage and gradient is summed, not
sampled.

A world has a few questions, one turn for each agent, two or three messages for each turn, softmax
policies with one row of logits for each context, and the outcome of every episode. In a sequential
world an agent's context is the question and all earlier messages; in a vote it is the question
alone. Trees of a world are ordinary `Tree`s, so that credit methods are measured as they are
shipped.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ccpo.play.rating import GRID
from ccpo.team import vote_outcome
from ccpo.tree import Plan, Structure, Tree, make_tree

LARGEST = 600_000  # messages of an enumeration
QUESTIONS = 2
TIE = "uniform"  # of votes


@dataclass(frozen=True)
class World:
    """Tables of a world with X questions and turns t = 0 .. T-1 of m_t messages and C_t contexts
    each.

    weight    [X] how often a question is asked
    logits    by turn [C_t, m_t]: the policies' parameters
    context   by turn [X, m_0 .. m_{t-1}]: which row of logits is used
    outcome   [X, m_0 .. m_{T-1}] in [0, 1]
    alone     logits [X, m_{T-1}] of the last agent when all others are left out, and
              `alone_outcome` [X, m_{T-1}]; None in a vote
    grams     by turn [C_t m_t, C_t m_t]: inner products of the scores d log pi / dparameters, where
              the parameters are not the logits
    """

    family: str
    answer: Literal["last", "vote"]
    weight: np.ndarray
    logits: tuple[np.ndarray, ...]
    context: tuple[np.ndarray, ...]
    outcome: np.ndarray
    alone: np.ndarray | None = None
    alone_outcome: np.ndarray | None = None
    grams: tuple[np.ndarray, ...] | None = None

    @property
    def turns(self) -> int:
        """Number of turns, and of agents."""
        return len(self.logits)

    def policy(self, turn: int) -> np.ndarray:
        """Probabilities [C_t, m_t]."""
        return softmax(self.logits[turn])

    def gram(self, turn: int) -> np.ndarray:
        """Inner products [C m, C m] of the scores of (context, message) pairs: in logits, (e_a -
        pi)(e_b - pi) inside a context, else 0.
        """
        if self.grams is not None:
            return self.grams[turn]
        policy = self.policy(turn)
        c, m = policy.shape
        score = np.eye(m)[None] - policy[:, None]  # [C, a, logit]
        out = np.zeros((c, m, c, m))
        out[np.arange(c), :, np.arange(c)] = score @ score.transpose(0, 2, 1)
        return out.reshape(c * m, c * m)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True))


# -- families

FAMILIES = ("necessity", "redundancy", "free_riding", "sabotage")
SHAPES = {"dyad": 2, "chain": 3, "vote": 3}  # agents


def build(family: str, shape: str, seed: int) -> World:
    """An instance of a family: the outcome's rule is the family's, the policies' logits vary with
    the seed.

    Message 0 is the good one. In sequences (dyad, chain):
      necessity     right only if every message is good                     (alone: never right)
      redundancy    right if any message is good
      free_riding   right if the last message is good, and its author does not listen
      sabotage      right if the last message is good and the first is not the poison, which is rare
    In votes a message is an answer, 0 correct, 1 and 2 wrong:
      necessity     every voter is weak, so each is often decisive
      redundancy    every voter is strong
      free_riding   the last voter guesses
      sabotage      the last voter says 1, the others' common mistake

    Raises:
        ValueError: no such family or shape.
    """
    if family not in FAMILIES or shape not in SHAPES:
        raise ValueError(
            f"world {family}/{shape} is not known. Families: {', '.join(FAMILIES)}; shapes: "
            f"{', '.join(SHAPES)}"
        )
    rng = np.random.default_rng([seed, FAMILIES.index(family), list(SHAPES).index(shape)])
    turns = SHAPES[shape]
    weight = rng.dirichlet(np.full(QUESTIONS, 8.0))
    make = _vote if shape == "vote" else _sequence
    return make(family, weight, turns, rng)


def _sequence(family: str, weight: np.ndarray, turns: int, rng: np.random.Generator) -> World:
    logits = []
    context = []
    for turn in range(turns):
        shape = (QUESTIONS,) + (2,) * turn
        rows = rng.normal(0.0, 0.7, (int(np.prod(shape)), 2))
        if family == "sabotage" and turn == 0:
            rows[:, 0] += 2.5  # the poison is rare
        if family == "free_riding" and turn == turns - 1:
            # It does not listen: one row of logits for each question.
            rows = np.repeat(rows[:QUESTIONS], len(rows) // QUESTIONS, axis=0)
        logits.append(rows)
        context.append(np.arange(len(rows)).reshape(shape))
    right, right_alone = outcomes(family, turns)
    return World(
        family=family,
        answer="last",
        weight=weight,
        logits=tuple(logits),
        context=tuple(context),
        outcome=np.broadcast_to(right, (QUESTIONS, *right.shape)).astype(float),
        alone=rng.normal(0.0, 0.7, (QUESTIONS, 2)),
        alone_outcome=np.array([right_alone] * QUESTIONS),
    )


def outcomes(family: str, turns: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Whether a sequence is right [m_0 .. m_{T-1}] (bool), message 0 being the good one, and what
    the last agent's two messages are worth when it is alone.
    """
    good = np.indices((2,) * turns) == 0  # [turn, m_0 .. m_{T-1}]
    right = {
        "necessity": good.all(0),
        "redundancy": good.any(0),
        "free_riding": good[-1],
        "sabotage": good[-1] & good[0],
    }[family]
    return right, (0.0, 0.0) if family == "necessity" else (1.0, 0.0)


VOTERS = {  # chances of the answers 0 (correct), 1 and 2, before they vary with the seed
    "necessity": (0.4, 0.3, 0.3),
    "redundancy": (0.8, 0.1, 0.1),
    "free_riding": (0.6, 0.25, 0.15),
    "sabotage": (0.6, 0.3, 0.1),
}
LAST_VOTER = {"free_riding": (1 / 3, 1 / 3, 1 / 3), "sabotage": (0.1, 0.8, 0.1)}


def _vote(family: str, weight: np.ndarray, turns: int, rng: np.random.Generator) -> World:
    logits = []
    context = []
    for turn in range(turns):
        is_last = turn == turns - 1
        chances = LAST_VOTER.get(family, VOTERS[family]) if is_last else VOTERS[family]
        logits.append(np.log(chances) + rng.normal(0.0, 0.3, (QUESTIONS, 3)))
        question = np.arange(QUESTIONS).reshape(-1, *(1,) * turn)
        context.append(np.broadcast_to(question, (QUESTIONS,) + (3,) * turn))
    votes = np.array(list(itertools.product(range(3), repeat=turns)))
    outcome = vote_outcome(votes, TIE).reshape((3,) * turns)
    return World(
        family=family,
        answer="vote",
        weight=weight,
        logits=tuple(logits),
        context=tuple(context),
        outcome=np.broadcast_to(outcome, (QUESTIONS, *outcome.shape)).copy(),
    )


# -- what is summed


def reach(world: World, turn: int) -> np.ndarray:
    """Probability [X, m_0 .. m_{t-1}] of the question and the messages before a turn."""
    chance = world.weight
    for earlier in range(turn):
        chance = chance[..., None] * world.policy(earlier)[world.context[earlier]]
    return chance


def value(world: World) -> float:
    """Expected outcome J of the team."""
    return float((reach(world, world.turns) * world.outcome).sum())


def truth(world: World, turn: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Q [C_t, m_t], V [C_t] and the probability [C_t] of a turn's contexts, all later messages
    drawn from the policies.
    """
    by_path = world.outcome  # [X, m_0 .. m_{T-1}], then with the later turns summed out
    for later in range(world.turns - 1, turn, -1):
        by_path = (by_path * world.policy(later)[world.context[later]]).sum(-1)
    rows = world.context[turn].reshape(-1)
    chance = reach(world, turn).reshape(-1)
    by_path = by_path.reshape(len(rows), -1)
    contexts = len(world.logits[turn])
    mass = np.bincount(rows, chance, contexts)
    columns = [np.bincount(rows, chance * column, contexts) for column in by_path.T]
    q = np.stack(columns, 1) / mass[:, None]
    return q, (q * world.policy(turn)).sum(1), mass


def advantage(world: World, turn: int) -> np.ndarray:
    """A*(h, a) = Q(h, a) - V(h), [C_t, m_t]."""
    q, v, _ = truth(world, turn)
    return q - v[:, None]


def gradient(world: World, turn: int) -> np.ndarray:
    """What a turn adds to the gradient of J, as weights [C_t, m_t] of the scores d log pi(a | h):
    P(h) pi(a | h) A*(h, a).

    In logits that is dJ / dlogits itself, since the weights of a context sum to 0.
    """
    return truth(world, turn)[2][:, None] * world.policy(turn) * advantage(world, turn)


def without(world: World, agent: int) -> float:
    """Expected outcome when an agent is left out: the others vote, or (agent 0 of a dyad) the last
    one answers alone.

    Raises:
        ValueError: the world does not say what is left of the team then.
    """
    if world.answer == "vote":
        return _without_voter(world, agent)
    if agent != 0 or world.turns != 2 or world.alone is None or world.alone_outcome is None:
        raise ValueError(
            f"world {world.family} with {world.turns} agents does not say what is left without "
            f"agent {agent}"
        )
    return float(world.weight @ (softmax(world.alone) * world.alone_outcome).sum(1))


def _without_voter(world: World, agent: int) -> float:
    others = [turn for turn in range(world.turns) if turn != agent]
    answers = [range(world.logits[turn].shape[1]) for turn in others]
    total = 0.0
    for votes in itertools.product(*answers):
        by_voter = [world.policy(t)[:, vote] for t, vote in zip(others, votes, strict=True)]
        chance = np.prod(by_voter, axis=0)
        total += float(world.weight @ chance) * float(vote_outcome(np.array([votes]), TIE)[0])
    return total


# -- trees


@dataclass(frozen=True)
class Slot:
    """One message that a plan draws for each task: its turn, the slots before it in its episode,
    and who is left out (-1: nobody).
    """

    turn: int
    path: tuple[int, ...]
    removed: int


def slots(world: World, plan: Plan) -> list[Slot]:
    """What a plan draws for each task, parents first.

    Raises:
        ValueError: the plan leaves out an agent of whom the world does not say what is left.
    """
    out: list[Slot] = []
    paths: list[tuple[int, ...]] = [()]
    for turn, width in enumerate(plan.fanout):
        longer = []
        for path in paths:
            for _ in range(width):
                longer.append((*path, len(out)))
                out.append(Slot(turn, path, -1))
        paths = longer
    for removal in plan.removals:
        if removal.agent != 0 or world.turns != 2 or world.alone is None:
            raise ValueError(
                f"world {world.family} with {world.turns} agents does not say what is left "
                f"without agent {removal.agent}"
            )
        out += [Slot(world.turns - 1, (), 0)] * removal.n
    return out


@dataclass(frozen=True)
class WeightedTrees:
    """Trees of a world, with their chances.

    tree     over N tasks, each of them one realisation of the plan's draws
    chance   [N] of each task's draws
    context  [M] the context of each message: its row of logits
    message  [M] which of its turn's messages each one is
    """

    tree: Tree
    chance: np.ndarray
    context: np.ndarray
    message: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """Chance [M] of the task a message belongs to."""
        return self.chance[self.tree.task]

    def of_turn(self, turn: int) -> np.ndarray:
        """Places of a turn's factual messages."""
        return np.flatnonzero(self.tree.factual & (self.tree.turn == turn))


@dataclass(frozen=True)
class Draws:
    """What was drawn for N tasks: the question [N], and the message [N, S] of each slot."""

    slots: list[Slot]
    question: np.ndarray
    message: np.ndarray

    def path(self, slot: Slot) -> tuple[np.ndarray, ...]:
        """The question and the messages before a slot, each [N]: an index into a world's tables."""
        return (self.question, *(self.message[:, before] for before in slot.path))


def enumerate_trees(world: World, plan: Plan) -> WeightedTrees:
    """Every realisation of a plan's draws as a task of its own, with its probability.

    Raises:
        ValueError: there are too many.
    """
    drawn = slots(world, plan)
    sizes = [len(world.weight), *(world.logits[slot.turn].shape[1] for slot in drawn)]
    number = int(np.prod(sizes, dtype=float))
    if number * len(drawn) > LARGEST:
        raise ValueError(
            f"world {world.family}: fan-out {list(plan.fanout)} has {number:,} realisations of "
            f"{len(drawn)} messages; at most {LARGEST:,} messages are enumerated. Remedy: a "
            "smaller fan-out, or sampled trees."
        )
    grid = np.indices(sizes).reshape(len(sizes), -1)
    draws = Draws(drawn, grid[0], grid[1:].T)
    chance = world.weight[draws.question]
    for k, slot in enumerate(drawn):
        probabilities, _ = _distribution(world, slot, draws)
        chance = chance * probabilities[np.arange(number), draws.message[:, k]]
    return _grow(world, draws, chance)


def sample_trees(world: World, plan: Plan, n: int, rng: np.random.Generator) -> WeightedTrees:
    """`n` tasks drawn as training draws them, each with chance 1 / n."""
    drawn = slots(world, plan)
    question = rng.choice(len(world.weight), n, p=world.weight)
    draws = Draws(drawn, question, np.zeros((n, len(drawn)), int))  # filled slot by slot
    for k, slot in enumerate(drawn):
        probabilities, _ = _distribution(world, slot, draws)
        below = (rng.random(n)[:, None] > probabilities.cumsum(1)).sum(1)
        draws.message[:, k] = np.minimum(below, probabilities.shape[1] - 1)
    return _grow(world, draws, np.full(n, 1 / n))


def _distribution(world: World, slot: Slot, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Distribution [N, m] of a slot's message given the slots before it, and its context [N]."""
    if slot.removed >= 0:
        assert world.alone is not None
        return softmax(world.alone)[draws.question], draws.question
    context = world.context[slot.turn][draws.path(slot)]
    return world.policy(slot.turn)[context], context


def _grow(world: World, draws: Draws, chance: np.ndarray) -> WeightedTrees:
    """The trees of what was drawn, slot by slot."""
    tasks, width = draws.message.shape
    context = np.zeros((tasks, width), int)
    reward = np.zeros((tasks, width))
    answer = np.full((tasks, width), -1)
    for k, slot in enumerate(draws.slots):
        message = draws.message[:, k]
        context[:, k] = _distribution(world, slot, draws)[1]
        if slot.removed >= 0:
            assert world.alone_outcome is not None
            reward[:, k] = world.alone_outcome[draws.question, message]
        elif slot.turn == world.turns - 1:
            reward[:, k] = world.outcome[(*draws.path(slot), message)]
        if world.answer == "vote":
            answer[:, k] = message
        elif slot.turn == world.turns - 1:
            answer[:, k] = reward[:, k] < 1
    tree = make_tree(
        _structure(draws.slots, tasks),
        leaf_reward=reward.reshape(-1),
        answer=answer.reshape(-1),
    )
    return WeightedTrees(tree, chance, context.reshape(-1), draws.message.reshape(-1))


def _structure(drawn: list[Slot], tasks: int) -> Structure:
    """The same slots for every task; a turn is an agent."""
    width = len(drawn)
    before = np.tile([slot.path[-1] if slot.path else -1 for slot in drawn], tasks)
    first = np.repeat(np.arange(tasks) * width, width)
    turn = np.tile([slot.turn for slot in drawn], tasks)
    return Structure(
        task=np.repeat(np.arange(tasks), width),
        parent=np.where(before >= 0, first + before, -1),
        turn=turn,
        agent=turn,
        removed=np.tile([slot.removed for slot in drawn], tasks),
    )


def with_estimates(
    world: World, trees: WeightedTrees, kind: str, critic_error: float
) -> WeightedTrees:
    """The trees with a critic's values (`kind` "context" or "message"): the truth, moved by
    `critic_error` of the way to its mean.
    """
    estimate = np.full(len(trees.tree), np.nan)
    for turn in range(world.turns):
        rows = trees.of_turn(turn)
        context = trees.context[rows]
        q, v, mass = truth(world, turn)
        exact = v[context] if kind == "context" else q[context, trees.message[rows]]
        estimate[rows] = exact + critic_error * (float(mass @ v) - exact)
    return replace(trees, tree=replace(trees.tree, value=estimate))


# What the raters of an episode do, with which chance: say the split nearest to the truth, one of
# the two extreme splits, or nothing valid.
RATERS: dict[str, dict[str, float]] = {
    "informed": {"near": 1.0},
    "careless": {"near": 0.7, "nothing": 0.3},
    "coin": {"first": 0.5, "last": 0.5},
}


def with_ratings(
    world: World,
    trees: WeightedTrees,
    raters: str = "informed",
    rng: np.random.Generator | None = None,
) -> WeightedTrees:
    """The trees of a dyad as both agents rate them, drawn with `rng`, or (None) with every case of
    what raters do as a task of its own.

    "near" is the split of the grid nearest to |A*_0| : |A*_1| of the episode's messages, which no
    real rater knows: the best case.
    """
    chances = np.array(list(RATERS[raters].values()))
    if rng is None:
        trees, case = _every_case(trees, chances)
    else:
        case = rng.choice(len(chances), len(trees.tree.episodes()), p=chances)
    paths = trees.tree.episodes()
    splits = _splits(world, trees, paths)
    nothing = np.full((len(paths), 2), np.nan)
    by_kind = np.stack([splits.get(kind, nothing) for kind in RATERS[raters]])
    rating = trees.tree.rating.copy()
    for turn in range(2):
        rating[paths[:, turn]] = by_kind[case, np.arange(len(paths))]
    return replace(trees, tree=replace(trees.tree, rating=rating))


def _every_case(trees: WeightedTrees, chances: np.ndarray) -> tuple[WeightedTrees, np.ndarray]:
    """The trees once for each combination of cases that their episodes may have, of the given
    chances, and the case of each episode.
    """
    tasks = len(trees.chance)
    episodes = len(trees.tree.episodes()) // tasks
    combinations = np.indices((len(chances),) * episodes).reshape(episodes, -1).T
    repeated = _repeat(trees, len(combinations))
    chance = repeated.chance * np.tile(chances[combinations].prod(1), tasks)
    return replace(repeated, chance=chance), np.tile(combinations, (tasks, 1)).reshape(-1)


def _splits(world: World, trees: WeightedTrees, paths: np.ndarray) -> dict[str, np.ndarray]:
    """Splits [E, 2] of the episodes `paths` [E, 2] that a rater may give."""
    sizes = [
        np.abs(advantage(world, turn)[trees.context[rows], trees.message[rows]])
        for turn, rows in enumerate(paths.T)
    ]
    total = np.stack(sizes, 1).sum(1)
    share = np.where(total > 0, sizes[0] / np.maximum(total, 1e-300), 0.5)
    grid = np.array(GRID)
    return {
        "near": grid[np.abs(grid[None, :, 0] - share[:, None]).argmin(1)],
        "first": grid[:1].repeat(len(paths), 0),
        "last": grid[-1:].repeat(len(paths), 0),
    }


def _repeat(trees: WeightedTrees, times: int) -> WeightedTrees:
    """Every task `times` times, one after the other."""
    tasks = len(trees.chance)
    width = len(trees.tree) // tasks
    if len(trees.tree) * times > LARGEST:
        raise ValueError(
            f"{len(trees.tree) * times:,} messages; at most {LARGEST:,} are enumerated. Remedy: "
            "a smaller fan-out"
        )
    first = np.arange(tasks * times)[:, None] * width  # of each new task
    source = np.arange(tasks * width).reshape(tasks, width).repeat(times, 0)
    shift = (first - source[:, :1]).repeat(width, 1).reshape(-1)
    rows = source.reshape(-1)
    columns = {name: getattr(trees.tree, name)[rows] for name in Tree.__dataclass_fields__}
    columns["parent"] = np.where(columns["parent"] >= 0, columns["parent"] + shift, -1)
    columns["task"] = np.arange(tasks * times).repeat(width)
    return WeightedTrees(
        tree=Tree(**columns),
        chance=trees.chance.repeat(times),
        context=trees.context[rows],
        message=trees.message[rows],
    )
