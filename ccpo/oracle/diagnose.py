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
from typing import Any

import numpy as np
from scipy import stats

from ccpo import advantage, credit, lineage, schema
from ccpo import team as teams
from ccpo.advantage import Messages, role_information
from ccpo.oracle import language
from ccpo.oracle import world as oracle
from ccpo.oracle.world import Grove, World
from ccpo.tree import Plan

log = logging.getLogger("ccpo")

TEAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "dyad": ("think_solve", {}),
    "language": ("think_solve", {}),  # a dyad that a language model speaks
    "chain": ("chain", {}),
    "vote": ("vote", {"tie": oracle.TIE}),
}
FLAT = {"dyad": (4, 1), "language": (4, 1), "chain": (4, 1, 1), "vote": (3, 1, 1)}
NESTED = {
    "dyad": (2, 4),
    "language": (2, 4),
    "chain": (2, 2, 2),
}  # C3's, as far as they can be enumerated
TREES = 20_000  # that are drawn, to check what was summed
SINGLE = 6_000  # of them, for what a single task or batch does
MEMORY = 4000  # trees from which a method's memory is made
TINY = 1e-9  # an advantage below this is none


@dataclass(frozen=True)
class Method:
    """A credit method as it is measured: its parameters, whether its tree is nested, how far its
    critic is off (0: exact), and what its raters are like (RATERS of ccpo/oracle/world.py).
    """

    label: str
    credit: str
    params: Mapping[str, Any]
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


def prepare(
    method: Method, world: World, plan: Plan, grove: Grove, rng: np.random.Generator | None = None
) -> Grove:
    """The trees with the values and ratings that the plan asks for; raters are drawn with `rng`, or
    (None) every case of them is summed.
    """
    if plan.critic:
        grove = oracle.with_estimates(world, grove, plan.critic, method.critic_error)
    return oracle.with_ratings(world, grove, method.raters, rng) if plan.ratings else grove


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
    of the credit, its mean by context.
    """

    mean: float
    variance: float
    by_context: Mapping[int, np.ndarray]

    def apply(self, name: str, given: np.ndarray, group: np.ndarray, grove: Grove) -> np.ndarray:
        """Advantage [M] of credits [M]."""
        compares = advantage.load(name).COMPARES
        memory = {"mean": self.mean, "variance": self.variance}
        if (
            compares == "batch"
        ):  # by the population's mean and variance, which `history` takes as its memory
            return advantage.compute("history", Messages(given, group), memory, eps=1e-300)
        if compares == "critic":
            value = np.zeros(len(given))
            for turn, mean in self.by_context.items():
                here = grove.tree.turn == turn
                value[here] = mean[np.where(grove.tree.factual[here], grove.context[here], 0)]
            return advantage.compute(name, Messages(given, group, value=value))
        return advantage.compute(name, Messages(given, group), memory)


def limits(world: World, grove: Grove, given: np.ndarray, group: np.ndarray) -> Limits:
    """The limits, from an enumeration."""
    used = group >= 0
    w = np.where(used, grove.weight, 0.0)
    w = w / w.sum()
    mean = float(w @ given)
    by_context = {}
    for turn in range(world.turns):
        here = np.flatnonzero(used & (grove.tree.turn == turn))
        rows = grove.context[here]
        size = len(world.logits[turn])
        mass = np.bincount(rows, grove.weight[here], size)
        by_context[turn] = np.bincount(rows, grove.weight[here] * given[here], size) / np.maximum(
            mass, 1e-300
        )
    return Limits(mean, float(w @ (given - mean) ** 2), by_context)


def expectation(
    world: World, grove: Grove, advantage: np.ndarray, turn: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E[advantage | context, message], its variance, and the probability of (context, message): [C,
    m] each, of factual messages.
    """
    shape = world.logits[turn].shape
    here = np.flatnonzero(grove.tree.factual & (grove.tree.turn == turn))
    cell = grove.context[here] * shape[1] + grove.said[here]
    w = grove.weight[here]
    a = advantage[here]
    mass = np.bincount(cell, w, shape[0] * shape[1])
    some = np.maximum(mass, 1e-300)
    mean = np.bincount(cell, w * a, len(mass)) / some
    variance = np.bincount(cell, w * (a - mean[cell]) ** 2, len(mass)) / some
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


def measure(
    world: World,
    plan: Plan,
    exact: Grove,
    drawn: Grove,
    advantage: np.ndarray,
    sampled: np.ndarray,
    turn: int,
    tasks: int,
) -> dict[str, float]:
    """Figures of one turn; `advantage` belongs to the enumeration `exact`, `sampled` to `drawn`,
    whose batches are of `tasks` tasks.

    scale: what E[advantage] is of A*, by least squares (the learning rate takes it up). bias: root
    mean square of E[advantage] / scale - A*; bias_raw: without the scale. variance, mse: of
    advantage / scale around its mean, and around A*. mse_tokens, mse_calls: mse times the tokens
    and evaluator calls of a task, so the error at a budget. spearman: of drawn advantages with A*.
    cosine, norm_ratio: of the expected gradient with the exact one; batch_cosine: of single batches
    that generate the same number of tokens; noise_tokens,
    noise_calls: squared error of one task's gradient, relative to the exact gradient's square,
        times its tokens and calls. Where A* is 0
    throughout there is no scale: it is 1, and what is relative to A* is 0. outcome_correlation: of
    the advantage with the outcome of the message's episodes. sampled_worst: largest distance, in
    standard errors, of a sum over drawn trees from its expectation, over `sampled_cells` contexts
    and messages.
    """
    star = oracle.advantage(world, turn)
    mean, variance, mass = expectation(world, exact, advantage, turn)
    size = float((mass * star**2).sum())
    scale = float((mass * mean * star).sum()) / size if size > TINY else 1.0
    usable = scale if abs(scale) > TINY else 1.0
    true = oracle.gradient(world, turn)
    gram = world.gram(turn)
    expected = mass * mean
    tokens, calls = cost(world, plan)
    var = float((mass * variance).sum()) / usable**2
    bias = float((mass * (mean / usable - star) ** 2).sum())
    sums = by_task(world, drawn, sampled, turn)
    single = sums[:SINGLE]
    whole = len(single) // tasks
    batches = single[: whole * tasks].reshape(whole, tasks, *single.shape[1:]).mean(1)
    norm = length(true, gram)
    off = single / usable - true
    error = float(inner(off, off, gram).mean()) / norm**2 if norm > TINY else 0.0
    here = np.flatnonzero(
        drawn.tree.factual & (drawn.tree.turn == turn) & (drawn.tree.task < SINGLE)
    )
    worst, cells = against_sample(by_task(world, exact, advantage, turn), exact.chance, sums)
    return {
        "scale": scale,
        "bias": bias**0.5,
        "bias_raw": float((mass * (mean - star) ** 2).sum()) ** 0.5,
        "variance": var,
        "mse": var + bias,
        "mse_tokens": (var + bias) * tokens,
        "mse_calls": (var + bias) * calls,
        "advantage_sd": float((mass * (variance + mean**2)).sum()) ** 0.5,
        "spearman": spearman(star[drawn.context[here], drawn.said[here]], sampled[here]),
        "cosine": float(cosine(expected, true, gram)),
        "norm_ratio": length(expected, gram) / norm if norm > TINY else 0.0,
        "batch_cosine": float(cosine(batches, true, gram).mean()),
        "noise_tokens": error * tokens,
        "noise_calls": error * calls,
        "outcome_correlation": outcome_correlation(exact, advantage, turn),
        "sampled_worst": worst,
        "sampled_cells": cells,
        "tokens": tokens,
        "evaluator_calls": calls,
    }


def cost(world: World, plan: Plan) -> tuple[float, float]:
    """Generated tokens (one a message, and one a rating) and evaluator calls of a task."""
    drawn = oracle.slots(world, plan)
    answers = [s for s in drawn if world.answer == "vote" or s.turn == world.turns - 1]
    ratings = sum(s.removed < 0 for s in drawn) if plan.ratings else 0
    return float(len(drawn) + ratings), float(len(answers))


def by_task(world: World, grove: Grove, advantage: np.ndarray, turn: int) -> np.ndarray:
    """Sums [N, C, m] of each task's advantages by context and message, over its number of messages
    of the turn: its gradient estimate, as weights of scores.
    """
    c, m = world.logits[turn].shape
    here = np.flatnonzero(grove.tree.factual & (grove.tree.turn == turn))
    n = len(grove.chance)
    cell = (grove.tree.task[here] * c + grove.context[here]) * m + grove.said[here]
    return np.bincount(cell, advantage[here], n * c * m).reshape(n, c, m) * (n / len(here))


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


def outcome_correlation(exact: Grove, advantage: np.ndarray, turn: int) -> float:
    """Correlation of a turn's advantages with the outcome of their messages' episodes, over all
    trees; 0 where one does not vary.
    """
    here = np.flatnonzero(exact.tree.factual & (exact.tree.turn == turn))
    w = exact.weight[here] / exact.weight[here].sum()
    a, r = (x[here] - w @ x[here] for x in (advantage, exact.tree.reward))
    size = float((w @ a**2) * (w @ r**2))
    return float(w @ (a * r)) / size**0.5 if size > TINY**2 else 0.0


def team_cosine(world: World, exact: Grove, advantage: np.ndarray) -> float:
    """Cosine of the expected gradients of all turns, side by side, with the exact ones: below the
    turns' own where roles weigh unlike.
    """
    products = np.zeros(3)
    for turn in range(world.turns):
        mean, _, mass = expectation(world, exact, advantage, turn)
        found = mass * mean
        true = oracle.gradient(world, turn)
        gram = world.gram(turn)
        products += [inner(found, true, gram), inner(found, found, gram), inner(true, true, gram)]
    size = max(0.0, float(products[1] * products[2])) ** 0.5
    return float(products[0]) / size if size > TINY**2 else 0.0


def diagnose(
    family: str,
    shape: str,
    methods: Sequence[Method],
    advantages: Sequence[str],
    *,
    instances: int,
    seed: int,
    tokens: int,
    model: Path | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Rows of the table `diagnostics` for a family and shape of world, and the combinations that
    have no meaning, each with the reason.

    `tokens`: what each method's single batch may generate. Every instance is a replicate: policies
    differ, the outcome's rule does not.
    `model`: the language model's folder, for the shape "language".
    """
    if shape == "language" and model is None:
        raise ValueError("the shape language needs a model's folder (--model)")
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    plans: dict[str, Plan] = {}
    for method in methods:
        try:
            plans[method.label] = method.plan(shape)
        except ValueError as error:
            skipped.append(
                {"method": method.label, "shape": shape, "family": family, "reason": str(error)}
            )
    for instance in range(instances):
        spoken = model if shape == "language" else None
        world = (
            language.build(spoken, family, seed + instance)
            if spoken
            else oracle.build(family, shape, seed + instance)
        )
        groves: dict[Plan, tuple[Grove, Grove]] = {}  # methods with the same draws share them
        for method in methods:
            if plan := plans.get(method.label):
                place = {
                    "family": family,
                    "shape": shape,
                    "instance": instance,
                    "method": method.label,
                }
                draws = Plan(plan.fanout, plan.removals)
                if draws not in groves:
                    rng = np.random.default_rng([seed, instance, zlib.crc32(repr(draws).encode())])
                    groves[draws] = (
                        oracle.enumerate_trees(world, draws),
                        oracle.sample_trees(world, draws, TREES, rng),
                    )
                rows += [
                    place | row
                    for row in _instance(method, world, plan, advantages, *groves[draws], tokens)
                ]
        log.info("%s/%s: world %d of %d", family, shape, instance + 1, instances)
    return rows, skipped


def _instance(
    method: Method,
    world: World,
    plan: Plan,
    advantages: Sequence[str],
    every: Grove,
    some: Grove,
    tokens: int,
) -> list[dict[str, Any]]:
    """Rows of one method in one world."""
    tasks = max(1, int(tokens // cost(world, plan)[0]))
    rng = np.random.default_rng(zlib.crc32(method.label.encode()))
    exact = prepare(method, world, plan, every)
    drawn = prepare(method, world, plan, some, rng)
    past = memory_of(method, world, plan)
    run = credit.load(method.credit).credit
    given, group = run(exact.tree, *past, **method.params)
    there, there_group = run(drawn.tree, *past, **method.params)
    limit = limits(world, exact, given, group)
    rows = []
    for name in advantages:
        if name == "gae" and plan.critic:
            continue  # its critic is spoken for
        advantage = limit.apply(name, given, group, exact)
        sampled = limit.apply(name, there, there_group, drawn)
        whole = {
            "advantage": name,
            "team_cosine": team_cosine(world, exact, advantage),
            "batch_tasks": tasks,
        }
        for turn in range(world.turns):
            here = np.flatnonzero(
                drawn.tree.factual & (drawn.tree.turn == turn) & (drawn.tree.task < SINGLE)
            )
            told = role_information(
                sampled[here],
                2 * drawn.tree.reward[here] - 1,
                np.unique(there_group[here], return_inverse=True)[1],
            )
            rows.append(
                whole
                | {"turn": turn, "role_information": told}
                | measure(world, plan, exact, drawn, advantage, sampled, turn, tasks)
            )
    return rows


def of_experiment(experiment: Path, family: str, shape: str, model: Path | None, out: Path) -> None:
    """Diagnoses the methods of an oracle experiment (its experiment.json) in one kind of world, and
    writes the table and what was left out.
    """
    manifest = schema.read_json(experiment)
    methods = [
        Method(
            label,
            method["credit"]["name"],
            method["credit"]["params"],
            method["nested"],
            method["critic_error"],
            method["raters"],
        )
        for label, method in manifest["methods"].items()
    ]
    rows, skipped = diagnose(
        family,
        shape,
        methods,
        manifest["advantages"],
        instances=manifest["instances"],
        seed=manifest["seed"],
        tokens=manifest["tokens"],
        model=model,
    )
    inputs = [experiment, *([model] if model else [])]
    for artefact in (write(rows, skipped, out), out):
        lineage.write_passport(artefact, inputs)


def write(rows: list[dict[str, Any]], skipped: list[dict[str, str]], out: Path) -> Path:
    """The table, and beside it the combinations that were left out; returns the path of those."""
    schema.write_table(out, schema.rows_to_table("diagnostics", rows))
    beside = out.with_suffix(".skipped.json")
    schema.write_json(beside, skipped)
    return beside
