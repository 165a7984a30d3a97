"""Credit methods against truth: bias, variance, rank correlation and gradient error in oracle
worlds, where truth is summed.

Every figure comes from the shipped `credit` and advantage functions, run on trees: on all trees of
a world for expectations, on drawn ones for what a single batch does. What depends on a whole batch
is taken in its limit: `batch_whiten` and `history` with the population's mean and variance, methods
with a memory after many trees, `gae` with the exact expectation of the credit in each context.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from ccpo import advantage, credit, lineage, manifest, schema
from ccpo import team as teams
from ccpo.advantage import Messages, role_information
from ccpo.oracle import language
from ccpo.oracle import world as oracle
from ccpo.oracle.world import WeightedTrees, World
from ccpo.tree import Plan

log = logging.getLogger("ccpo")

TEAMS: dict[str, tuple[str, dict[str, object]]] = {
    "dyad": ("think_solve", {}),
    "language": ("think_solve", {}),  # a dyad that a language model speaks
    "chain": ("chain", {}),
    "vote": ("vote", {"tie": oracle.TIE}),
}
FLAT = {"dyad": (4, 1), "language": (4, 1), "chain": (4, 1, 1), "vote": (3, 1, 1)}
# C3's, as far as they can be enumerated
NESTED = {"dyad": (2, 4), "language": (2, 4), "chain": (2, 2, 2)}
TREES = 20_000  # that are drawn, to check what was summed
SINGLE = 6_000  # of them, for what a single task or batch does
MEMORY = 4000  # trees from which a method's memory is made
TINY = 1e-9  # an advantage below this is none

Row = dict[str, str | int | float]  # of the table `diagnostics`
Skipped = dict[str, str]  # a method that has no meaning in a shape of world: which, and the reason


@dataclass(frozen=True)
class Method:
    """A credit method as it is measured: its parameters, whether its tree is nested, how far its
    critic is off (0: exact), and what its raters are like (RATERS of ccpo/oracle/world.py).
    """

    label: str
    credit: str
    params: Mapping[str, object]
    nested: bool = False
    critic_error: float = 0.0
    raters: str = "informed"

    def plan(self, shape: str) -> Plan:
        """Its plan for a shape of world; ValueError where it has no meaning there, with the
        method's own words.
        """
        if self.nested and shape not in NESTED:
            raise ValueError(
                f"{self.label}: the messages of a vote do not follow each other, so there is no "
                "tree to nest"
            )
        name, params = TEAMS[shape]
        team = teams.load(name).team(**params)
        plan: Plan = credit.load(self.credit).plan(
            team, NESTED[shape] if self.nested else FLAT[shape], **self.params
        )
        return plan


@dataclass(frozen=True)
class Credited:
    """Trees with what a method assigns to their messages: credit [M] and group [M]."""

    trees: WeightedTrees
    credit: np.ndarray
    group: np.ndarray

    @property
    def messages(self) -> Messages:
        """What an advantage is made from."""
        return Messages(self.credit, self.group)


@dataclass(frozen=True)
class Assigned:
    """Trees with the advantage [M] of their messages."""

    trees: WeightedTrees
    advantage: np.ndarray


def prepare(
    method: Method,
    world: World,
    plan: Plan,
    trees: WeightedTrees,
    rng: np.random.Generator | None = None,
) -> WeightedTrees:
    """The trees with the values and ratings that the plan asks for; raters are drawn with `rng`, or
    (None) every case of them is summed.
    """
    if plan.critic:
        trees = oracle.with_estimates(world, trees, plan.critic, method.critic_error)
    return oracle.with_ratings(world, trees, method.raters, rng) if plan.ratings else trees


def memory_of(method: Method, world: World, plan: Plan) -> tuple[dict[str, float], ...]:
    """What a method remembers once it has seen many trees; () if it remembers nothing."""
    module = credit.load(method.credit)
    if not hasattr(module, "remember"):
        return ()
    rng = np.random.default_rng(0)
    many = prepare(method, world, plan, oracle.sample_trees(world, plan, MEMORY, rng), rng)
    return (module.remember(many.tree, {}, **method.params),)


@dataclass(frozen=True)
class Limits:
    """What an advantage takes from its whole batch, in the limit of a large one: mean and variance
    of the credit, and its mean by turn and context.
    """

    mean: float
    variance: float
    by_context: Mapping[int, np.ndarray]

    def apply(self, name: str, credited: Credited) -> Assigned:
        """The advantage of this name."""
        compares = advantage.load(name).COMPARES
        memory = {"mean": self.mean, "variance": self.variance}
        messages = credited.messages
        if compares == "batch":
            # By the population's mean and variance, which `history` takes as its memory.
            values = advantage.compute("history", messages, memory, eps=1e-300)
        elif compares == "critic":
            estimate = self._estimate(credited.trees)
            messages = Messages(credited.credit, credited.group, value=estimate)
            values = advantage.compute(name, messages)
        else:
            values = advantage.compute(name, messages, memory)
        return Assigned(credited.trees, values)

    def _estimate(self, trees: WeightedTrees) -> np.ndarray:
        """The mean credit [M] of each message's context, which an exact critic would learn."""
        out = np.zeros(len(trees.tree))
        for turn, mean in self.by_context.items():
            rows = trees.tree.turn == turn
            out[rows] = mean[np.where(trees.tree.factual[rows], trees.context[rows], 0)]
        return out


def limits(world: World, credited: Credited) -> Limits:
    """The limits, from an enumeration."""
    trees = credited.trees
    used = credited.group >= 0
    weight = np.where(used, trees.weight, 0.0)
    weight = weight / weight.sum()
    mean = float(weight @ credited.credit)
    variance = float(weight @ (credited.credit - mean) ** 2)
    by_context = {}
    for turn in range(world.turns):
        rows = np.flatnonzero(used & (trees.tree.turn == turn))
        context = trees.context[rows]
        chance = trees.weight[rows]
        size = len(world.logits[turn])
        mass = np.bincount(context, chance, size)
        total = np.bincount(context, chance * credited.credit[rows], size)
        by_context[turn] = total / np.maximum(mass, 1e-300)
    return Limits(mean, variance, by_context)


def expectation(
    world: World, assigned: Assigned, turn: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E[advantage | context, message], its variance, and the probability of (context, message): [C,
    m] each, of factual messages.
    """
    trees = assigned.trees
    shape = world.logits[turn].shape
    rows = trees.of_turn(turn)
    cell = trees.context[rows] * shape[1] + trees.message[rows]
    weight = trees.weight[rows]
    values = assigned.advantage[rows]
    mass = np.bincount(cell, weight, shape[0] * shape[1])
    positive = np.maximum(mass, 1e-300)
    mean = np.bincount(cell, weight * values, len(mass)) / positive
    variance = np.bincount(cell, weight * (values - mean[cell]) ** 2, len(mass)) / positive
    return mean.reshape(shape), variance.reshape(shape), (mass / mass.sum()).reshape(shape)


def inner(a: np.ndarray, b: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Inner products [...] of gradients, each given as weights [..., C, m] of the scores whose
    inner products are `gram`.
    """
    flat = a.reshape(*a.shape[:-2], -1)
    return np.asarray(((flat @ gram) * b.reshape(*b.shape[:-2], -1)).sum(-1))


def length(a: np.ndarray, gram: np.ndarray) -> float:
    """Length of a gradient [C, m]. The inner product with itself may come out a rounding error
    below 0.
    """
    return max(0.0, float(inner(a, a, gram))) ** 0.5


def cosine(a: np.ndarray, b: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Cosines [...] of gradients [..., C, m] with one [C, m]; 0 where one of them is 0."""
    size = np.sqrt(np.maximum(inner(a, a, gram) * inner(b, b, gram), 0.0))
    return np.asarray(np.where(size > 1e-24, inner(a, b, gram) / np.maximum(size, 1e-300), 0.0))


@dataclass(frozen=True)
class Expected:
    """What a turn's advantage is over all trees, against the truth.

    mean, variance, mass  [C, m] as `expectation` gives them
    star                  [C, m] the exact advantage A*
    scale                 what the mean is of A*, by least squares; 1 where A* is 0 throughout
    """

    mean: np.ndarray
    variance: np.ndarray
    mass: np.ndarray
    star: np.ndarray
    scale: float

    @property
    def usable(self) -> float:
        """The scale, or 1 where there is none to take out."""
        return self.scale if abs(self.scale) > TINY else 1.0

    def over_mass(self, values: np.ndarray) -> float:
        """Mean of values [C, m] over contexts and messages."""
        return float((self.mass * values).sum())

    def figures(self) -> dict[str, float]:
        """Bias, variance and error of the advantage, as `measure` names them."""
        bias = self.over_mass((self.mean / self.usable - self.star) ** 2)
        variance = self.over_mass(self.variance) / self.usable**2
        return {
            "scale": self.scale,
            "bias": bias**0.5,
            "bias_raw": self.over_mass((self.mean - self.star) ** 2) ** 0.5,
            "variance": variance,
            "mse": variance + bias,
            "advantage_sd": self.over_mass(self.variance + self.mean**2) ** 0.5,
        }


def expected(world: World, exact: Assigned, turn: int) -> Expected:
    """The turn of an enumeration, against the truth."""
    star = oracle.advantage(world, turn)
    mean, variance, mass = expectation(world, exact, turn)
    size = float((mass * star**2).sum())
    scale = float((mass * mean * star).sum()) / size if size > TINY else 1.0
    return Expected(mean, variance, mass, star, scale)


def measure(
    world: World, plan: Plan, exact: Assigned, drawn: Assigned, turn: int, tasks: int
) -> dict[str, float]:
    """Figures of one turn from the enumeration `exact` and from trees `drawn`, whose batches are of
    `tasks` tasks.

    scale: what E[advantage] is of A*, by least squares (the learning rate takes it up).
    bias: root mean square of E[advantage] / scale - A*; bias_raw: without the scale.
    variance, mse: of advantage / scale around its mean, and around A*.
    mse_tokens, mse_calls: mse times the tokens and evaluator calls of a task, so the error at a
        budget.
    spearman: of drawn advantages with A*.
    cosine, norm_ratio: of the expected gradient with the exact one; batch_cosine: of single batches
        that generate the same number of tokens.
    noise_tokens, noise_calls: squared error of one task's gradient, relative to the exact
        gradient's square, times its tokens and calls.
    outcome_correlation: of the advantage with the outcome of the message's episodes.
    sampled_worst: largest distance, in standard errors, of a sum over drawn trees from its
        expectation, over `sampled_cells` contexts and messages.
    Where A* is 0 throughout there is no scale: it is 1, and what is relative to A* is 0.
    """
    summed = expected(world, exact, turn)
    figures = summed.figures()
    tokens, calls = cost(world, plan)
    sums = by_task(world, drawn, turn)
    gradients = _gradients(world, summed, sums, turn, tasks)
    noise = gradients.pop("noise")
    rows = _single_rows(drawn.trees, turn)
    star = summed.star[drawn.trees.context[rows], drawn.trees.message[rows]]
    worst, cells = against_sample(by_task(world, exact, turn), exact.trees.chance, sums)
    return {
        **figures,
        **gradients,
        "mse_tokens": figures["mse"] * tokens,
        "mse_calls": figures["mse"] * calls,
        "spearman": spearman(star, drawn.advantage[rows]),
        "noise_tokens": noise * tokens,
        "noise_calls": noise * calls,
        "outcome_correlation": outcome_correlation(exact, turn),
        "sampled_worst": worst,
        "sampled_cells": cells,
        "tokens": tokens,
        "evaluator_calls": calls,
    }


def _gradients(
    world: World, summed: Expected, sums: np.ndarray, turn: int, tasks: int
) -> dict[str, float]:
    """Expected gradient and single ones (from `sums` [N, C, m], see by_task) against the exact one;
    `noise` is the squared error of one task's, relative to the exact one's square.
    """
    true = oracle.gradient(world, turn)
    gram = world.gram(turn)
    norm = length(true, gram)
    gradient = summed.mass * summed.mean
    single = sums[:SINGLE]
    whole = len(single) // tasks
    batches = single[: whole * tasks].reshape(whole, tasks, *single.shape[1:]).mean(1)
    error = single / summed.usable - true
    has_direction = norm > TINY
    return {
        "cosine": float(cosine(gradient, true, gram)),
        "norm_ratio": length(gradient, gram) / norm if has_direction else 0.0,
        "batch_cosine": float(cosine(batches, true, gram).mean()),
        "noise": float(inner(error, error, gram).mean()) / norm**2 if has_direction else 0.0,
    }


def _single_rows(trees: WeightedTrees, turn: int) -> np.ndarray:
    """A turn's factual messages in the trees that single tasks are looked at."""
    rows = trees.of_turn(turn)
    return rows[trees.tree.task[rows] < SINGLE]


def cost(world: World, plan: Plan) -> tuple[float, float]:
    """Generated tokens (one a message, and one a rating) and evaluator calls of a task."""
    drawn = oracle.slots(world, plan)
    answers = [s for s in drawn if world.answer == "vote" or s.turn == world.turns - 1]
    ratings = sum(s.removed < 0 for s in drawn) if plan.ratings else 0
    return float(len(drawn) + ratings), float(len(answers))


def by_task(world: World, assigned: Assigned, turn: int) -> np.ndarray:
    """Sums [N, C, m] of each task's advantages by context and message, over its number of messages
    of the turn: its gradient estimate, as weights of scores.
    """
    trees = assigned.trees
    contexts, messages = world.logits[turn].shape
    rows = trees.of_turn(turn)
    tasks = len(trees.chance)
    cell = trees.tree.task[rows] * contexts + trees.context[rows]
    cell = cell * messages + trees.message[rows]
    sums = np.bincount(cell, assigned.advantage[rows], tasks * contexts * messages)
    return sums.reshape(tasks, contexts, messages) * (tasks / len(rows))


def against_sample(every: np.ndarray, chance: np.ndarray, drawn: np.ndarray) -> tuple[float, int]:
    """Largest distance of the mean [C, m] over drawn tasks from its expectation in standard errors,
    and how many could be compared.

    Tasks are independent and the errors are the exact ones, from all trees [N, C, m] and their
    chances [N]. Left out: what fewer than 100 drawn tasks are expected to hold, since it is not
    normal. What does not vary must be equal.
    """
    mean = np.tensordot(chance, every, 1)
    error = np.sqrt(np.maximum(np.tensordot(chance, every**2, 1) - mean**2, 0) / len(drawn))
    often = np.tensordot(chance, np.abs(every) > TINY, 1) * len(drawn) >= 100
    off = np.abs(drawn.mean(0) - mean)
    varies = often & (error > 1e-9)
    worst = float((off[varies] / error[varies]).max(initial=0.0))
    still = off[often & ~varies]
    return (worst if (still < 1e-9).all() else 1e9), int(often.sum())


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; 0 where one of the two does not vary."""
    return float(stats.spearmanr(a, b).statistic) if np.ptp(a) > TINY and np.ptp(b) > TINY else 0.0


def outcome_correlation(exact: Assigned, turn: int) -> float:
    """Correlation of a turn's advantages with the outcome of their messages' episodes, over all
    trees; 0 where one does not vary.
    """
    rows = exact.trees.of_turn(turn)
    weight = exact.trees.weight[rows] / exact.trees.weight[rows].sum()
    a = exact.advantage[rows]
    a = a - weight @ a
    r = exact.trees.tree.reward[rows]
    r = r - weight @ r
    size = float((weight @ a**2) * (weight @ r**2))
    return float(weight @ (a * r)) / size**0.5 if size > TINY**2 else 0.0


def team_cosine(world: World, exact: Assigned) -> float:
    """Cosine of the expected gradients of all turns, side by side, with the exact ones: below the
    turns' own where roles weigh unlike.
    """
    products = np.zeros(3)
    for turn in range(world.turns):
        mean, _, mass = expectation(world, exact, turn)
        gradient = mass * mean
        true = oracle.gradient(world, turn)
        gram = world.gram(turn)
        products += [
            inner(gradient, true, gram),
            inner(gradient, gradient, gram),
            inner(true, true, gram),
        ]
    size = max(0.0, float(products[1] * products[2])) ** 0.5
    return float(products[0]) / size if size > TINY**2 else 0.0


@dataclass(frozen=True)
class Worlds:
    """Instances of a family and shape of world, each a replicate: policies differ with the seed,
    the outcome's rule does not. `model`: the language model's folder, for the shape "language".
    """

    family: str
    shape: str
    instances: int
    seed: int
    model: Path | None = None

    def build(self, instance: int) -> World:
        """One of them.

        Raises:
            ValueError: no such family or shape, or a language world without a model.
        """
        seed = self.seed + instance
        if self.shape != "language":
            return oracle.build(self.family, self.shape, seed)
        if self.model is None:
            raise ValueError("the shape language needs a model's folder (--model)")
        return language.build(self.model, self.family, seed)

    def trees(
        self, world: World, instance: int, draws: Plan
    ) -> tuple[WeightedTrees, WeightedTrees]:
        """All trees of a plan, and drawn ones."""
        place = zlib.crc32(repr(draws).encode())
        rng = np.random.default_rng([self.seed, instance, place])
        drawn = oracle.sample_trees(world, draws, TREES, rng)
        return oracle.enumerate_trees(world, draws), drawn


@dataclass(frozen=True)
class Measurement:
    """One method in one world: what it assigns to all trees and to drawn ones."""

    world: World
    plan: Plan
    exact: Credited
    drawn: Credited
    limits: Limits

    def rows(self, name: str, tokens: int) -> list[Row]:
        """A row for each turn under the advantage of this name, in batches of about `tokens`."""
        exact = self.limits.apply(name, self.exact)
        drawn = self.limits.apply(name, self.drawn)
        tasks = max(1, int(tokens // cost(self.world, self.plan)[0]))
        every_turn: Row = {
            "advantage": name,
            "team_cosine": team_cosine(self.world, exact),
            "batch_tasks": tasks,
        }
        out: list[Row] = []
        for turn in range(self.world.turns):
            figures = measure(self.world, self.plan, exact, drawn, turn, tasks)
            information = self._information(drawn, turn)
            out.append({**every_turn, "turn": turn, "role_information": information, **figures})
        return out

    def _information(self, drawn: Assigned, turn: int) -> float:
        """Role information of a turn's drawn advantages."""
        rows = _single_rows(drawn.trees, turn)
        outcome = 2 * drawn.trees.tree.reward[rows] - 1
        group = np.unique(self.drawn.group[rows], return_inverse=True)[1]
        return role_information(drawn.advantage[rows], outcome, group)


def credited(
    method: Method, world: World, plan: Plan, trees: tuple[WeightedTrees, WeightedTrees]
) -> tuple[Credited, Credited]:
    """What a method assigns to all trees and to drawn ones, once it has seen many."""
    every, sample = trees
    rng = np.random.default_rng(zlib.crc32(method.label.encode()))
    exact = prepare(method, world, plan, every)
    drawn = prepare(method, world, plan, sample, rng)
    past = memory_of(method, world, plan)
    assign = credit.load(method.credit).credit
    return (
        Credited(exact, *assign(exact.tree, *past, **method.params)),
        Credited(drawn, *assign(drawn.tree, *past, **method.params)),
    )


def diagnose(
    worlds: Worlds, methods: Sequence[Method], advantages: Sequence[str], *, tokens: int
) -> tuple[list[Row], list[Skipped]]:
    """Rows of the table `diagnostics` for worlds of a family and shape, and the combinations that
    have no meaning, each with the reason.

    `tokens`: what each method's single batch may generate.
    """
    plans, skipped = _plans(worlds, methods)
    rows: list[Row] = []
    for instance in range(worlds.instances):
        world = worlds.build(instance)
        place: Row = {"family": worlds.family, "shape": worlds.shape, "instance": instance}
        by_draws: dict[Plan, tuple[WeightedTrees, WeightedTrees]] = {}  # methods share them
        for method in methods:
            if method.label not in plans:
                continue
            plan = plans[method.label]
            draws = Plan(plan.fanout, plan.removals)
            if draws not in by_draws:
                by_draws[draws] = worlds.trees(world, instance, draws)
            exact, drawn = credited(method, world, plan, by_draws[draws])
            measurement = Measurement(world, plan, exact, drawn, limits(world, exact))
            for name in advantages:
                if name == "gae" and plan.critic:
                    continue  # its critic is spoken for
                own = place | {"method": method.label}
                rows += [own | row for row in measurement.rows(name, tokens)]
        log.info(
            "%s/%s: world %d of %d", worlds.family, worlds.shape, instance + 1, worlds.instances
        )
    return rows, skipped


def _plans(worlds: Worlds, methods: Sequence[Method]) -> tuple[dict[str, Plan], list[Skipped]]:
    """Plans of the methods by label, and those that have no meaning in these worlds."""
    plans = {}
    skipped = []
    for method in methods:
        try:
            plans[method.label] = method.plan(worlds.shape)
        except ValueError as error:
            place = {"shape": worlds.shape, "family": worlds.family}
            skipped.append({"method": method.label, **place, "reason": str(error)})
    return plans, skipped


def of_experiment(experiment: Path, family: str, shape: str, model: Path | None, out: Path) -> None:
    """Diagnoses the methods of an oracle experiment (its experiment.json) in one kind of world, and
    writes the table and what was left out.
    """
    begun = lineage.begin([experiment, *([model] if model else [])])
    planned = manifest.read_oracle(experiment)
    methods = [
        Method(m.label, m.credit, m.params, m.nested, m.critic_error, m.raters)
        for m in planned.methods
    ]
    worlds = Worlds(family, shape, planned.instances, planned.seed, model)
    rows, skipped = diagnose(worlds, methods, planned.advantages, tokens=planned.tokens)
    for artefact in (write(rows, skipped, out), out):
        lineage.write_passport(artefact, begun)


def write(rows: list[Row], skipped: list[Skipped], out: Path) -> Path:
    """The table, and beside it the combinations that were left out; returns the path of those."""
    schema.write_table(out, schema.rows_to_table("diagnostics", rows))
    beside = out.with_suffix(".skipped.json")
    schema.write_json(beside, skipped)
    return beside
