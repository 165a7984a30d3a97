"""How far the credit of a method is what it stands for: fidelity, variance and calibration of
credit on a probe, for every method alike.

The target is the exact advantage A*(h, a) = Q(h, a) - V(h), and nothing it is made from has been
seen by the estimate: candidates are split in two halves. The credit of one half is made from the
first half of its replays; its target from the other replays for Q, and from the other half of the
candidates for V. Both halves take their turn. (Made from the same draws, every method that centres
rewards would have fidelity 1 by algebra.) Where nothing follows a message, its outcome is Q itself,
and only V has to be estimated.

    fidelity = corr(credit, target) / ceiling
    ceiling  = sqrt(cov(target', target'') / var(target))

with target', target'' the two halves of the target: the correlation with A* itself, were it known
(Spearman 1904, attenuation). 1 is credit without noise; the ceiling is what the target's own
reliability allows.

Methods are called as they are shipped (ccpo/credit), on trees made from the draws in the form that
their plan asks for, and their credit is taken after the mean of its group, as training does. Trees
of all forms take the same number of evaluator calls:
    flat    episodes of their own; of a message with a context of its own, one of each context
    nested  siblings that answer one context, with replays below each
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ccpo import advantage, credit
from ccpo.advantage import Messages
from ccpo.publish.probe_statistics import Bin, LeftOut, MethodProbe
from ccpo.team import Team
from ccpo.tree import Structure, Tree, make_tree

SHUFFLES = 200
LEVEL = 0.95
BINS = 5


@dataclass(frozen=True)
class Draws:
    """What was drawn of one turn: C contexts x n candidates x m replays (m = 1: nothing follows).

    task    int   [C] the task of each context
    reward  float [C, n, m] in [0, 1]
    answer  int   [C, n, m] class of the team's answer within its task
    votes   int   [C, n, m, K] class of each turn's answer in a vote of K turns; K = 0: none
    solo    float [X, S] outcomes without the first agent, for each task; S = 0: not drawn
    before  turns that the context of the message holds
    """

    turn: int
    task: np.ndarray
    reward: np.ndarray
    answer: np.ndarray
    votes: np.ndarray
    solo: np.ndarray
    before: tuple[int, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether the outcome of a message is known at once."""
        return self.reward.shape[2] == 1

    @property
    def mixed(self) -> float:
        """Share of contexts whose outcomes are not all the same; credit is 0 in the others."""
        low = self.reward.min(axis=(1, 2))
        high = self.reward.max(axis=(1, 2))
        return float(np.mean(low < high))


Form = Literal["flat", "nested", "nested, all replays"]


@dataclass(frozen=True)
class Method:
    """A credit method, and the form of the tree that it is given."""

    credit: str
    form: Form

    @property
    def label(self) -> str:
        """Its name on a page."""
        return self.credit if self.form != "nested, all replays" else f"{self.credit}, all replays"


def methods(team: Team, draws: Draws) -> tuple[list[Method], list[LeftOut]]:
    """The methods that can be measured on the draws, and the others with the reason."""
    able: list[Method] = []
    left_out: list[LeftOut] = []
    for name in credit.names():
        form, reason = _form(name, team, draws)
        if form == "none":
            left_out.append(LeftOut(method=name, reason=reason))
        elif form == "nested":
            able.append(Method(name, "nested"))
            if not draws.exact:
                able.append(Method(name, "nested, all replays"))
        else:
            able.append(Method(name, "flat"))
    return able, left_out


def _form(name: str, team: Team, draws: Draws) -> tuple[Literal["flat", "nested", "none"], str]:
    """The form of tree that a method asks for, or "none" with the reason."""
    module = credit.load(name)
    if name == "none":
        return "none", "it gives no credit"
    if hasattr(module, "remember"):
        return "none", "its memory of the training is not kept with a run"
    turns = len(team.turns)
    shapes = {"flat": (2, *(1,) * (turns - 1)), "nested": (2,) * turns}
    refusals = []
    for form, fanout in shapes.items():
        try:
            plan = module.plan(team, fanout, **_params(name, team))
        except ValueError as error:
            refusals.append(str(error))
            continue
        if plan.ratings:
            return "none", "a probe draws no ratings"
        if plan.critic:
            return "none", "it needs a critic, and none is kept with a run"
        if plan.removals and not draws.solo.size:
            return "none", "episodes without an agent are drawn of teams of two only"
        if form == "nested" and draws.before != tuple(range(draws.turn)):
            return "none", "messages before this one are not part of its context"
        return ("flat" if form == "flat" else "nested"), ""
    return "none", refusals[-1]


def _params(name: str, team: Team) -> dict[str, object]:
    """The parameters that a method takes from the team; all others are its own defaults."""
    takes_tie = "tie" in inspect.signature(credit.load(name).credit).parameters
    return {"tie": team.tie} if takes_tie else {}


# -- estimate and target


def estimate(team: Team, draws: Draws, method: Method) -> np.ndarray:
    """What a method gives each candidate [C, n], after the mean of its group. `draws` holds the
    candidates and replays that it may see.
    """
    planted = plant(team, draws, method.form)
    module = credit.load(method.credit)
    value, group = module.credit(planted.tree, **_params(method.credit, team))
    centred = advantage.compute("group_mean", Messages(value, group))
    return np.asarray(centred[planted.place])


@dataclass(frozen=True)
class Planted:
    """A tree made from draws, where in it each candidate [C, n] stands, and how many evaluator
    calls one tree took.
    """

    tree: Tree
    place: np.ndarray
    calls: int


@dataclass
class _Rows:
    """A tree while it is made: task, parent, turn, agent, removed; reward and answer of each."""

    structure: list[tuple[int, int, int, int, int]]
    outcome: list[tuple[float, int]]

    def add(self, row: tuple[int, int, int, int, int], reward: float, answer: int) -> int:
        """Appends a message; its place."""
        self.structure.append(row)
        self.outcome.append((reward, answer))
        return len(self.structure) - 1

    def tree(self) -> Tree:
        """The tree."""
        columns = zip(*self.structure, strict=True)
        reward, answer = zip(*self.outcome, strict=True)
        return make_tree(
            Structure(*(np.array(c, dtype=np.int64) for c in columns)),
            leaf_reward=np.array(reward),
            answer=np.array(answer),
        )


def plant(team: Team, draws: Draws, form: Form) -> Planted:
    """The draws as trees of a form, one after the other in one."""
    rows = _Rows([], [])
    if form == "flat":
        place, calls = _plant_flat(team, draws, rows)
    else:
        place, calls = _plant_nested(team, draws, rows, whole=form == "nested, all replays")
    return Planted(rows.tree(), place, calls)


def _plant_flat(team: Team, draws: Draws, rows: _Rows) -> tuple[np.ndarray, int]:
    """Episodes of their own. Where the tasks have several contexts, an update meets each of them
    once: a tree for each candidate's number; else its episodes are the candidates.
    """
    contexts, n, _ = draws.reward.shape
    alone = len(np.unique(draws.task)) == contexts
    place = np.zeros((contexts, n), int)
    for c in range(contexts):
        for j in range(n):
            task = int(draws.task[c]) * n + (0 if alone else j)
            place[c, j] = _episode(team, draws, rows, task, (c, j, 0))
    for task in sorted({row[0] for row in rows.structure}) if draws.solo.size else []:
        (turn,) = team.without(0)
        for outcome in draws.solo[task // n]:
            row = (task, -1, turn, team.turns[turn].agent, 0)
            rows.add(row, float(outcome), int(outcome < 1))
    return place, n if alone else int(np.bincount(draws.task).max())


def _episode(team: Team, draws: Draws, rows: _Rows, task: int, drawn: tuple[int, int, int]) -> int:
    """Adds an episode with messages of its own; the place of its candidate."""
    last = len(team.turns) - 1
    parent = -1
    place = -1
    for turn in range(last + 1):
        answers = draws.votes.shape[3] > 0 or turn == last
        code = -1
        if answers:
            code = int(draws.votes[drawn][turn] if draws.votes.shape[3] else draws.answer[drawn])
        row = (task, parent, turn, team.turns[turn].agent, -1)
        parent = rows.add(row, float(draws.reward[drawn]), code)
        if turn == draws.turn:
            place = parent
    return place


def _plant_nested(team: Team, draws: Draws, rows: _Rows, whole: bool) -> tuple[np.ndarray, int]:
    """Siblings in one context. As many calls as a flat tree has: pairs of siblings with replays
    below each, or single outcomes where nothing follows. `whole`: all siblings, all replays.
    """
    contexts, n, m = draws.reward.shape
    siblings = n if whole or draws.exact else 2
    replays = m if whole or draws.exact else min(n // 2, m)
    place = np.zeros((contexts, n), int)
    last = len(team.turns) - 1
    for c in range(contexts):
        for block in range(n // siblings):
            task = c * (n // siblings) + block
            parent = -1
            for turn in range(draws.turn):
                row = (task, parent, turn, team.turns[turn].agent, -1)
                parent = rows.add(row, 0.0, -1)
            for j in range(block * siblings, (block + 1) * siblings):
                row = (task, parent, draws.turn, team.turns[draws.turn].agent, -1)
                place[c, j] = rows.add(row, float(draws.reward[c, j, 0]), -1)
                for k in range(replays if draws.turn < last else 0):
                    below = int(place[c, j])
                    for turn in range(draws.turn + 1, last + 1):
                        row = (task, below, turn, team.turns[turn].agent, -1)
                        outcome = (float(draws.reward[c, j, k]), int(draws.answer[c, j, k]))
                        below = rows.add(row, *outcome)
    return place, siblings * replays


@dataclass(frozen=True)
class Half:
    """One half of the candidates: the draws that its credit is made from, and its target [C, n/2]
    in two independent halves.
    """

    seen: Draws
    first: np.ndarray
    second: np.ndarray

    @property
    def target(self) -> np.ndarray:
        """The whole target."""
        return (self.first + self.second) / 2


def halves(draws: Draws) -> tuple[Half, Half]:
    """Both halves of the candidates, each as estimate and target see it."""
    return _half(draws, 0), _half(draws, 1)


def _half(draws: Draws, number: int) -> Half:
    _, n, m = draws.reward.shape
    own = np.arange(number, n, 2)
    others = np.arange(1 - number, n, 2)
    seen = np.arange(max(1, m // 2))
    unseen = np.arange(m // 2, m)
    values = draws.reward[:, others].mean(axis=2)
    targets = []
    for part in (0, 1):
        held = unseen if draws.exact else unseen[part::2]
        q = draws.reward[:, own][:, :, held].mean(axis=2)
        targets.append(q - values[:, part::2].mean(axis=1, keepdims=True))
    used = np.ix_(np.arange(len(draws.task)), own, seen)
    return Half(
        replace(
            draws,
            reward=draws.reward[used],
            answer=draws.answer[used],
            votes=draws.votes[used],
        ),
        *targets,
    )


@dataclass(frozen=True)
class Target:
    """The target [C, n] of all candidates, its variance, that of the exact advantage in it, and
    whether the latter can be told from noise.
    """

    values: np.ndarray
    variance: float
    signal: float
    clear: bool

    @property
    def reliability(self) -> float | None:
        """Share of the target's variance that is the exact advantage's; None where none is seen."""
        return min(1.0, self.signal / self.variance) if self.clear else None


def target(pair: Sequence[Half], rng: np.random.Generator) -> Target:
    """The target of both halves of the candidates, beside each other."""
    values = np.concatenate([half.target for half in pair], axis=1)
    first = np.concatenate([half.first for half in pair], axis=1)
    second = np.concatenate([half.second for half in pair], axis=1)
    signal = _covariance(first, second)
    blocks = len(pair)
    noise = [_covariance(first, unrelated(second, blocks, rng)) for _ in range(SHUFFLES)]
    clear = signal > max(0.0, float(np.quantile(noise, LEVEL)))
    return Target(values, float(values.var()), signal, clear)


def unrelated(values: np.ndarray, blocks: int, rng: np.random.Generator) -> np.ndarray:
    """Values [C, n] that keep their spread in each context and nothing else: in another order
    inside each of `blocks` equal blocks, and the sign of each block by lot. (Order alone would keep
    what a context's mean has in common with the target's.)
    """
    contexts, n = values.shape
    parts = rng.permuted(values.reshape(contexts * blocks, n // blocks), axis=1)
    signs = rng.choice((-1.0, 1.0), (contexts * blocks, 1))
    return np.asarray((parts * signs).reshape(contexts, n))


def _covariance(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a - a.mean()) * (b - b.mean())).mean())


def measure(
    credits: np.ndarray, of: Target, label: tuple[str, int], rng: np.random.Generator
) -> MethodProbe:
    """Credits [C, n] against the target, both halves of the candidates beside each other.

    label: the method's name and its calls.
    """
    spread = float(credits.var())
    covariance = _covariance(credits, of.values)
    size = float(np.sqrt(spread * of.variance))
    correlation = covariance / size if size > 0 else 0.0
    nulls = [_covariance(unrelated(credits, 2, rng), of.values) for _ in range(SHUFFLES)]
    by_chance = np.array(nulls) / size if size > 0 else np.zeros(SHUFFLES)
    ceiling = float(np.sqrt(of.reliability)) if of.reliability else None
    scale = covariance / of.signal if of.clear else 0.0
    within = np.concatenate(np.split(credits, 2, axis=1))
    variance = float(within.var(axis=1, ddof=1).mean())
    seen = by_chance >= correlation
    return MethodProbe(
        method=label[0],
        calls=label[1],
        correlation=correlation,
        fidelity=correlation / ceiling if ceiling else None,
        floor=float(np.quantile(np.abs(by_chance), LEVEL)) / ceiling if ceiling else None,
        p=float((seen.sum() + 1) / (SHUFFLES + 1)),
        variance=variance / scale**2 / of.signal if scale > 0 else None,
        slope=covariance / spread if spread > 0 else None,
        bins=_bins(credits.reshape(-1), of.values.reshape(-1)),
    )


def _bins(credits: np.ndarray, targets: np.ndarray) -> tuple[Bin, ...]:
    """Mean target by fifths of the credit; equal credits stay together."""
    edges = np.unique(np.quantile(credits, np.linspace(0, 1, BINS + 1)[1:-1]))
    number = np.searchsorted(edges, credits, side="left")
    return tuple(
        Bin(
            n=int((number == k).sum()),
            credit=float(credits[number == k].mean()),
            target=float(targets[number == k].mean()),
        )
        for k in np.unique(number)
    )
