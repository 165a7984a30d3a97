"""Credit methods against truth: bias, variance, rank correlation and gradient error in oracle worlds, where truth is summed.

Every figure comes from the shipped `credit` and advantage functions, run on trees: on all trees of a world for expectations, on drawn ones
for what a single batch does. What depends on a whole batch is taken in its limit: `batch_whiten` and `history` with the population's mean
and variance, methods with a memory after many trees, `gae` with the exact expectation of the credit in each context.
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

from ccpo import credit, schema
from ccpo import team as teams
from ccpo.learn.advantage import ADVANTAGES, role_information
from ccpo.study import world as oracle
from ccpo.study.world import Grove, World
from ccpo.tree import Plan

log = logging.getLogger("ccpo")

TEAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "dyad": ("think_solve", {}),
    "chain": ("chain", {}),
    "vote": ("vote", {"tie": oracle.TIE}),
}
FLAT = {"dyad": (4, 1), "chain": (4, 1, 1), "vote": (3, 1, 1)}
NESTED = {"dyad": (2, 4), "chain": (2, 2, 2)}  # C3's, as far as they can be enumerated
BATCHES = 400  # single batches, for the cosine of one
MEMORY = 4000  # trees from which a method's memory is made
TINY = 1e-9  # an advantage below this is none


@dataclass(frozen=True)
class Method:
    """A credit method as it is measured: its parameters, whether its tree is nested, and how far its critic is off (0: exact)."""

    label: str
    credit: str
    params: Mapping[str, Any]
    nested: bool = False
    critic_error: float = 0.0

    def plan(self, shape: str) -> Plan:
        """Its plan for a shape of world; ValueError where it has no meaning there, with the method's own words."""
        if self.nested and shape not in NESTED:
            raise ValueError(f"{self.label}: the messages of a vote do not follow each other, so there is no tree to nest")
        name, params = TEAMS[shape]
        team = teams.load(name).team(**params)
        plan: Plan = credit.load(self.credit).plan(team, NESTED[shape] if self.nested else FLAT[shape], **self.params)
        return plan


def prepare(method: Method, world: World, plan: Plan, grove: Grove) -> Grove:
    """The trees with the values and ratings that the plan asks for."""
    if plan.critic:
        grove = oracle.with_estimates(world, grove, plan.critic, method.critic_error)
    return oracle.with_ratings(world, grove) if plan.ratings else grove


def memory_of(method: Method, world: World, plan: Plan) -> tuple[dict[str, float], ...]:
    """What a method remembers once it has seen many trees; () for a method that remembers nothing."""
    module = credit.load(method.credit)
    if not hasattr(module, "remember"):
        return ()
    many = oracle.sample_trees(world, plan, MEMORY, np.random.default_rng(0))
    return (module.remember(prepare(method, world, plan, many).tree, {}, **method.params),)


@dataclass(frozen=True)
class Limits:
    """What an advantage takes from its whole batch, in the limit of a large one: mean and variance of the credit, its mean by context."""

    mean: float
    variance: float
    by_context: Mapping[int, np.ndarray]

    def apply(self, name: str, given: np.ndarray, group: np.ndarray, grove: Grove) -> np.ndarray:
        """Advantage [M] of credits [M]."""
        if name == "batch_whiten":  # by the population's mean and variance, which `history` takes as its memory
            memory = {"mean": self.mean, "variance": self.variance}
            return ADVANTAGES["history"](given, group, None, memory=memory, eps=1e-300)
        if name == "history":
            return ADVANTAGES["history"](given, group, None, memory={"mean": self.mean, "variance": self.variance})
        if name == "gae":
            value = np.zeros(len(given))
            for turn, mean in self.by_context.items():
                here = grove.tree.turn == turn
                value[here] = mean[np.where(grove.tree.factual[here], grove.context[here], 0)]
            return ADVANTAGES["gae"](given, group, None, value=value)
        return ADVANTAGES[name](given, group, None)


def limits(world: World, grove: Grove, given: np.ndarray, group: np.ndarray) -> Limits:
    """The limits, from an enumeration."""
    used = group >= 0
    w = np.where(used, grove.weight, 0.0)
    w = w / w.sum()
    mean = float(w @ given)
    by_context = {}
    for turn in range(world.turns):
        here = np.flatnonzero(used & (grove.tree.turn == turn))
        rows, size = grove.context[here], len(world.logits[turn])
        mass = np.bincount(rows, grove.weight[here], size)
        by_context[turn] = np.bincount(rows, grove.weight[here] * given[here], size) / np.maximum(mass, 1e-300)
    return Limits(mean, float(w @ (given - mean) ** 2), by_context)


def expectation(world: World, grove: Grove, advantage: np.ndarray, turn: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E[advantage | context, message], its variance, and the probability of (context, message): [C, m] each, of factual messages."""
    shape = world.logits[turn].shape
    here = np.flatnonzero(grove.tree.factual & (grove.tree.turn == turn))
    cell, w, a = grove.context[here] * shape[1] + grove.said[here], grove.weight[here], advantage[here]
    mass = np.bincount(cell, w, shape[0] * shape[1])
    some = np.maximum(mass, 1e-300)
    mean = np.bincount(cell, w * a, len(mass)) / some
    variance = np.bincount(cell, w * (a - mean[cell]) ** 2, len(mass)) / some
    return mean.reshape(shape), variance.reshape(shape), (mass / mass.sum()).reshape(shape)


def score_sum(weighted: np.ndarray, policy: np.ndarray) -> np.ndarray:
    """Sum over messages of weight * dlog pi / dlogits [..., C, m], from the weights [..., C, m] summed by context and message."""
    return np.asarray(weighted - policy * weighted.sum(-1, keepdims=True))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two arrays; 0 where one of them is 0."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / size if size > 1e-24 else 0.0


def measure(
    world: World, plan: Plan, exact: Grove, drawn: Grove, advantage: np.ndarray, sampled: np.ndarray, turn: int, tasks: int
) -> dict[str, float]:
    """Figures of one turn; `advantage` belongs to the enumeration `exact`, `sampled` to `drawn`, whose batches are of `tasks` tasks.

    scale: what E[advantage] is of A*, by least squares (the learning rate takes it up). bias: root mean square of E[advantage] / scale -
    A*; bias_raw: without the scale. variance, mse: of advantage / scale around its mean, and around A*. mse_tokens, mse_calls: mse times
    the tokens and evaluator calls of a task, so the error at a budget. spearman: of drawn advantages with A*. cosine, norm_ratio: of
    the expected gradient with the exact one; batch_cosine: of single batches that generate the same number of tokens; noise_tokens,
    noise_calls: squared error of one task's gradient, relative to the exact gradient's square, times its tokens and calls. Where A* is 0
    throughout there is no scale: it is 1, and what is relative to A* is 0.
    """
    star, policy = oracle.advantage(world, turn), world.policy(turn)
    mean, variance, mass = expectation(world, exact, advantage, turn)
    size = float((mass * star**2).sum())
    scale = float((mass * mean * star).sum()) / size if size > TINY else 1.0
    usable = scale if abs(scale) > TINY else 1.0
    true = oracle.gradient(world, turn)
    expected = score_sum(mass * mean, policy)
    tokens, calls = cost(world, plan)
    var, bias = float((mass * variance).sum()) / usable**2, float((mass * (mean / usable - star) ** 2).sum())
    batches, single = batch_gradients(world, drawn, sampled, turn, tasks)
    norm = float(np.linalg.norm(true))
    error = float(((single / usable - true) ** 2).sum((1, 2)).mean()) / norm**2 if norm > TINY else 0.0
    here = drawn.tree.factual & (drawn.tree.turn == turn)
    truth_there, said_there = star[drawn.context[here], drawn.said[here]], sampled[here]
    ranked = np.ptp(truth_there) > TINY and np.ptp(said_there) > TINY
    return {
        "scale": scale,
        "bias": bias**0.5,
        "bias_raw": float((mass * (mean - star) ** 2).sum()) ** 0.5,
        "variance": var,
        "mse": var + bias,
        "mse_tokens": (var + bias) * tokens,
        "mse_calls": (var + bias) * calls,
        "advantage_sd": float((mass * (variance + mean**2)).sum()) ** 0.5,
        "spearman": float(stats.spearmanr(truth_there, said_there).statistic) if ranked else 0.0,
        "cosine": cosine(expected, true),
        "norm_ratio": float(np.linalg.norm(expected)) / norm if norm > TINY else 0.0,
        "batch_cosine": float(np.mean([cosine(g, true) for g in batches])),
        "noise_tokens": error * tokens,
        "noise_calls": error * calls,
        "tokens": tokens,
        "evaluator_calls": calls,
    }


def cost(world: World, plan: Plan) -> tuple[float, float]:
    """Generated tokens (one a message, and one a rating) and evaluator calls of a task."""
    drawn = oracle.slots(world, plan)
    answers = [s for s in drawn if world.answer == "vote" or s.turn == world.turns - 1]
    ratings = sum(s.removed < 0 for s in drawn) if plan.ratings else 0
    return float(len(drawn) + ratings), float(len(answers))


def batch_gradients(world: World, drawn: Grove, advantage: np.ndarray, turn: int, tasks: int) -> tuple[np.ndarray, np.ndarray]:
    """Gradient estimates [B, C, m] of whole batches, and [N, C, m] of single tasks: means over the messages of the turn."""
    c, m = world.logits[turn].shape
    here = np.flatnonzero(drawn.tree.factual & (drawn.tree.turn == turn))
    n = len(drawn.chance)
    cell = (drawn.tree.task[here] * c + drawn.context[here]) * m + drawn.said[here]
    weighted = np.bincount(cell, advantage[here], n * c * m).reshape(n, c, m) * (n / len(here))
    single = score_sum(weighted, world.policy(turn))
    whole = n // tasks
    return single[: whole * tasks].reshape(whole, tasks, c, m).mean(1), single


def diagnose(
    family: str, shape: str, methods: Sequence[Method], advantages: Sequence[str], *, instances: int, seed: int, tokens: int
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Rows of the table `diagnostics` for a family and shape of world, and the combinations that have no meaning, each with the reason.

    `tokens`: what each method's single batch may generate. Every instance is a replicate: policies differ, the outcome's rule does not.
    """
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    for method in methods:
        try:
            plan = method.plan(shape)
        except ValueError as error:
            skipped.append({"method": method.label, "shape": shape, "family": family, "reason": str(error)})
            continue
        for instance in range(instances):
            world = oracle.build(family, shape, seed + instance)
            rows += _instance(method, world, plan, shape, advantages, instance, seed, tokens)
        log.info("%s/%s: %s", family, shape, method.label)
    return rows, skipped


def _instance(
    method: Method, world: World, plan: Plan, shape: str, advantages: Sequence[str], instance: int, seed: int, tokens: int
) -> list[dict[str, Any]]:
    """Rows of one method in one world."""
    tasks = max(1, int(tokens // cost(world, plan)[0]))
    rng = np.random.default_rng([seed, instance, zlib.crc32(method.label.encode())])
    exact = prepare(method, world, plan, oracle.enumerate_trees(world, plan))
    drawn = prepare(method, world, plan, oracle.sample_trees(world, plan, tasks * max(1, BATCHES * 16 // tasks), rng))
    past, run = memory_of(method, world, plan), credit.load(method.credit).credit
    given, group = run(exact.tree, *past, **method.params)
    there, there_group = run(drawn.tree, *past, **method.params)
    limit, rows = limits(world, exact, given, group), []
    for name in advantages:
        if name == "gae" and plan.critic:
            continue  # its critic is spoken for
        advantage, sampled = limit.apply(name, given, group, exact), limit.apply(name, there, there_group, drawn)
        for turn in range(world.turns):
            here = drawn.tree.factual & (drawn.tree.turn == turn)
            told = role_information(sampled[here], 2 * drawn.tree.reward[here] - 1, np.unique(there_group[here], return_inverse=True)[1])
            place: dict[str, Any] = {
                "family": world.family,
                "shape": shape,
                "instance": instance,
                "method": method.label,
                "advantage": name,
            }
            figures = measure(world, plan, exact, drawn, advantage, sampled, turn, tasks)
            rows.append(place | figures | {"instance": instance, "turn": turn, "role_information": told, "batch_tasks": tasks})
    return rows


def write(rows: list[dict[str, Any]], skipped: list[dict[str, str]], out: Path) -> Path:
    """The table, and beside it the combinations that were left out; returns the path of those."""
    schema.write_table(out, schema.rows_to_table("diagnostics", rows))
    beside = out.with_suffix(".skipped.json")
    schema.write_json(beside, skipped)
    return beside
