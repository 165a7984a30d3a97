"""Oracle worlds: teams small enough that every value, advantage and gradient is summed, not
sampled.

A world has a few questions, one turn for each agent, two or three messages for each turn, softmax
policies with one row of logits for each context, and the outcome of every episode. In a sequential
world an agent's context is the question and all that was said; in a vote it is the question alone.
Trees of a world are ordinary `Tree`s, so that credit methods are measured as they are shipped.
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
# ------------------------------------------------------------------------------------------------

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
      necessity     every voter is weak, so each is often decisive          redundancy  every voter
                    is strong
      free_riding   the last voter guesses                                  sabotage    the last
                    voter says 1, the others' common mistake

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
    return (
        _vote(family, weight, turns, rng)
        if shape == "vote"
        else _sequence(family, weight, turns, rng)
    )


def _sequence(family: str, weight: np.ndarray, turns: int, rng: np.random.Generator) -> World:
    logits = []
    context = []
    for turn in range(turns):
        shape = (QUESTIONS,) + (2,) * turn
        rows = rng.normal(0.0, 0.7, (int(np.prod(shape)), 2))
        if family == "sabotage" and turn == 0:
            rows[:, 0] += 2.5  # the poison is rare
        if (
            family == "free_riding" and turn == turns - 1
        ):  # it hears nothing: one row of logits for each question
            rows = np.repeat(rows[:QUESTIONS], len(rows) // QUESTIONS, axis=0)
        logits.append(rows)
        context.append(np.arange(len(rows)).reshape(shape))
    rule, alone = outcomes(family, turns)
    outcome = np.broadcast_to(rule, (QUESTIONS, *rule.shape)).astype(float)
    alone_logits = rng.normal(0.0, 0.7, (QUESTIONS, 2))
    return World(
        family,
        "last",
        weight,
        tuple(logits),
        tuple(context),
        outcome,
        alone_logits,
        np.array([alone] * QUESTIONS),
    )


def outcomes(family: str, turns: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Whether a sequence is right [m_0 .. m_{T-1}] (bool), message 0 being the good one, and what
    the last agent's two messages are worth when it is alone.
    """
    good = np.indices((2,) * turns) == 0  # [turn, m_0 .. m_{T-1}]
    rule = {
        "necessity": good.all(0),
        "redundancy": good.any(0),
        "free_riding": good[-1],
        "sabotage": good[-1] & good[0],
    }[family]
    return rule, (0.0, 0.0) if family == "necessity" else (1.0, 0.0)


def _vote(family: str, weight: np.ndarray, turns: int, rng: np.random.Generator) -> World:
    shares = {
        "necessity": (0.4, 0.3, 0.3),
        "redundancy": (0.8, 0.1, 0.1),
        "free_riding": (0.6, 0.25, 0.15),
        "sabotage": (0.6, 0.3, 0.1),
    }
    last = {"free_riding": (1 / 3, 1 / 3, 1 / 3), "sabotage": (0.1, 0.8, 0.1)}
    logits = []
    context = []
    for turn in range(turns):
        share = last.get(family, shares[family]) if turn == turns - 1 else shares[family]
        logits.append(np.log(share) + rng.normal(0.0, 0.3, (QUESTIONS, 3)))
        context.append(
            np.broadcast_to(
                np.arange(QUESTIONS).reshape(-1, *(1,) * turn), (QUESTIONS,) + (3,) * turn
            )
        )
    every = np.array(list(itertools.product(range(3), repeat=turns)))
    outcome = vote_outcome(every, TIE).reshape((3,) * turns)
    return World(
        family,
        "vote",
        weight,
        tuple(logits),
        tuple(context),
        np.broadcast_to(outcome, (QUESTIONS, *outcome.shape)).copy(),
    )


# -- what is summed
# ------------------------------------------------------------------------------------------------


def reach(world: World, turn: int) -> np.ndarray:
    """Probability [X, m_0 .. m_{t-1}] of what was asked and said before a turn."""
    p = world.weight
    for t in range(turn):
        p = p[..., None] * world.policy(t)[world.context[t]]
    return p


def value(world: World) -> float:
    """Expected outcome J of the team."""
    return float((reach(world, world.turns) * world.outcome).sum())


def truth(world: World, turn: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Q [C_t, m_t], V [C_t] and the probability [C_t] of a turn's contexts, all later messages
    drawn from the policies.
    """
    q = world.outcome
    for t in range(world.turns - 1, turn, -1):
        q = (q * world.policy(t)[world.context[t]]).sum(-1)
    rows = world.context[turn].reshape(-1)
    p = reach(world, turn).reshape(-1)
    mass = np.bincount(rows, p, len(world.logits[turn]))
    q = q.reshape(len(rows), -1)
    mean = (
        np.stack([np.bincount(rows, p * q[:, a], len(mass)) for a in range(q.shape[1])], 1)
        / mass[:, None]
    )
    return mean, (mean * world.policy(turn)).sum(1), mass


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
        others = [t for t in range(world.turns) if t != agent]
        total = 0.0
        for said in itertools.product(*(range(world.logits[t].shape[1]) for t in others)):
            chance = np.prod(
                [world.policy(t)[:, a] for t, a in zip(others, said, strict=True)], axis=0
            )
            total += float(world.weight @ chance) * float(vote_outcome(np.array([said]), TIE)[0])
        return total
    if agent != 0 or world.turns != 2 or world.alone is None or world.alone_outcome is None:
        raise ValueError(
            f"world {world.family} with {world.turns} agents does not say what is left without "
            f"agent {agent}"
        )
    return float(world.weight @ (softmax(world.alone) * world.alone_outcome).sum(1))


# -- trees
# ------------------------------------------------------------------------------------------------


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
    front: list[tuple[int, ...]] = [()]
    for turn, n in enumerate(plan.fanout):
        grown = []
        for path in front:
            for _ in range(n):
                out.append(Slot(turn, path, -1))
                grown.append((*path, len(out) - 1))
        front = grown
    for removal in plan.removals:
        if removal.agent != 0 or world.turns != 2 or world.alone is None:
            raise ValueError(
                f"world {world.family} with {world.turns} agents does not say what is left "
                f"without agent {removal.agent}"
            )
        out += [Slot(world.turns - 1, (), 0)] * removal.n
    return out


@dataclass(frozen=True)
class Grove:
    """Trees of a world: `tree` over N tasks, the chance [N] of each task's draws, and for each
    message [M] its context, its own number, and its task's chance.
    """

    tree: Tree
    chance: np.ndarray
    context: np.ndarray
    said: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """Chance [M] of the task a message belongs to."""
        return self.chance[self.tree.task]


def enumerate_trees(world: World, plan: Plan) -> Grove:
    """Every realisation of a plan's draws as a task of its own, with its probability.

    Raises:
        ValueError: there are too many.
    """
    drawn = slots(world, plan)
    sizes = [len(world.weight), *(world.logits[s.turn].shape[1] for s in drawn)]
    number = int(np.prod(sizes, dtype=float))
    if number * len(drawn) > LARGEST:
        raise ValueError(
            f"world {world.family}: fan-out {list(plan.fanout)} has {number:,} realisations of "
            f"{len(drawn)} messages; at most "
            f"{LARGEST:,} messages are enumerated. Remedy: a smaller fan-out, or sampled trees."
        )
    grid = np.indices(sizes).reshape(len(sizes), -1)
    return _grow(world, plan, drawn, grid[0], grid[1:].T, exact=True)


def sample_trees(world: World, plan: Plan, n: int, rng: np.random.Generator) -> Grove:
    """`n` tasks drawn as training draws them, each with chance 1 / n."""
    drawn = slots(world, plan)
    question = rng.choice(len(world.weight), n, p=world.weight)
    said = np.zeros((n, len(drawn)), int)
    for k, slot in enumerate(drawn):
        p = _rows(world, slot, question, said)[0]
        said[:, k] = np.minimum((rng.random(n)[:, None] > p.cumsum(1)).sum(1), p.shape[1] - 1)
    return _grow(world, plan, drawn, question, said, exact=False)


def _rows(
    world: World, slot: Slot, question: np.ndarray, said: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distribution [N, m] of a slot's message given the slots before it, and its context [N]."""
    if slot.removed >= 0:
        assert world.alone is not None
        return softmax(world.alone)[question], question
    context = world.context[slot.turn][(question, *(said[:, p] for p in slot.path))]
    return world.policy(slot.turn)[context], context


def _grow(
    world: World, plan: Plan, drawn: list[Slot], question: np.ndarray, said: np.ndarray, exact: bool
) -> Grove:
    n, s = said.shape
    chance = world.weight[question] if exact else np.full(n, 1 / n)
    context = np.zeros((n, s), int)
    reward = np.zeros((n, s))
    answer = np.full((n, s), -1)
    for k, slot in enumerate(drawn):
        p, context[:, k] = _rows(world, slot, question, said)
        if exact:
            chance = chance * p[np.arange(n), said[:, k]]
        if slot.removed >= 0:
            assert world.alone_outcome is not None
            reward[:, k] = world.alone_outcome[question, said[:, k]]
        elif slot.turn == world.turns - 1:
            reward[:, k] = world.outcome[(question, *(said[:, p] for p in slot.path), said[:, k])]
        if world.answer == "vote":
            answer[:, k] = said[:, k]
        elif slot.turn == world.turns - 1:
            answer[:, k] = reward[:, k] < 1
    start = np.repeat(np.arange(n) * s, s)
    last = np.tile([slot.path[-1] if slot.path else -1 for slot in drawn], n)
    turn, removed = (
        np.tile([getattr(slot, name) for slot in drawn], n) for name in ("turn", "removed")
    )
    tree = make_tree(
        Structure(
            task=np.repeat(np.arange(n), s),
            parent=np.where(last >= 0, start + last, -1),
            turn=turn,
            agent=turn,
            removed=removed,
        ),
        leaf_reward=reward.reshape(-1),
        answer=answer.reshape(-1),
    )
    return Grove(tree, chance, context.reshape(-1), said.reshape(-1))


def with_estimates(world: World, grove: Grove, kind: str, critic_error: float) -> Grove:
    """The trees with a critic's values (`kind` "context" or "message"): the truth, moved by
    `critic_error` of the way to its mean.
    """
    known = np.full(len(grove.tree), np.nan)
    for turn in range(world.turns):
        here = np.flatnonzero(grove.tree.factual & (grove.tree.turn == turn))
        q, v, mass = truth(world, turn)
        exact = (
            v[grove.context[here]]
            if kind == "context"
            else q[grove.context[here], grove.said[here]]
        )
        known[here] = exact + critic_error * (float(mass @ v) - exact)
    return replace(grove, tree=replace(grove.tree, value=known))


# What the raters of an episode do, with which chance: say the split nearest to the truth, one of
# the two extreme splits, or nothing valid.
RATERS: dict[str, dict[str, float]] = {
    "informed": {"near": 1.0},
    "careless": {"near": 0.7, "nothing": 0.3},
    "coin": {"first": 0.5, "last": 0.5},
}


def with_ratings(
    world: World, grove: Grove, raters: str = "informed", rng: np.random.Generator | None = None
) -> Grove:
    """The trees of a dyad as both agents rate them, drawn with `rng`, or (None) with every case of
    what raters do as a task of its own.

    "near" is the split of the grid nearest to |A*_0| : |A*_1| of the episode's messages, which no
    real rater knows: the best case.
    """
    kinds = list(RATERS[raters])
    chances = np.array(list(RATERS[raters].values()))
    per_task = len(grove.tree.episodes()) // len(grove.chance)
    if rng is None:
        combos = np.indices((len(kinds),) * per_task).reshape(per_task, -1).T
        grove, n = _repeat(grove, len(combos)), len(grove.chance)
        does = np.tile(combos, (n, 1)).reshape(-1)
        grove = replace(grove, chance=grove.chance * np.tile(chances[combos].prod(1), n))
    else:
        does = rng.choice(len(kinds), per_task * len(grove.chance), p=chances)
    paths = grove.tree.episodes()
    size = np.stack(
        [
            np.abs(advantage(world, t)[grove.context[paths[:, t]], grove.said[paths[:, t]]])
            for t in range(2)
        ],
        1,
    )
    share = np.where(size.sum(1) > 0, size[:, 0] / np.maximum(size.sum(1), 1e-300), 0.5)
    splits = np.array(GRID)
    near = splits[np.abs(splits[None, :, 0] - share[:, None]).argmin(1)]
    every = {
        "near": near,
        "first": splits[:1].repeat(len(paths), 0),
        "last": splits[-1:].repeat(len(paths), 0),
    }
    said = np.stack([every.get(kind, np.full((len(paths), 2), np.nan)) for kind in kinds])[
        does, np.arange(len(paths))
    ]
    rating = grove.tree.rating.copy()
    for turn in range(2):
        rating[paths[:, turn]] = said
    return replace(grove, tree=replace(grove.tree, rating=rating))


def _repeat(grove: Grove, times: int) -> Grove:
    """Every task `times` times, one after the other."""
    n = len(grove.chance)
    size = len(grove.tree) // n
    if len(grove.tree) * times > LARGEST:
        raise ValueError(
            f"{len(grove.tree) * times:,} messages; at most {LARGEST:,} are enumerated. Remedy: "
            "a smaller fan-out"
        )
    source = np.arange(n * size).reshape(n, size).repeat(times, 0)
    shift = (np.arange(n * times)[:, None] * size - source[:, :1]).repeat(size, 1).reshape(-1)
    flat = source.reshape(-1)
    columns = {name: getattr(grove.tree, name)[flat] for name in Tree.__dataclass_fields__}
    columns["parent"] = np.where(columns["parent"] >= 0, columns["parent"] + shift, -1)
    columns["task"] = np.arange(n * times).repeat(size)
    return Grove(Tree(**columns), grove.chance.repeat(times), grove.context[flat], grove.said[flat])
