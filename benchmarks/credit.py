"""Milliseconds of credit and advantage for each method. `python benchmarks/credit.py`

192 tasks x 16 episodes x 2 agents (three for votes), medians over repetitions on one core, and the
ratio to the same at `--times` the
tasks: a ratio near `--times` means that the cost grows linearly. Outcomes are random; what they are
    does not change the work.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import inspect
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import time
from collections.abc import Callable

import numpy as np

from ccpo import advantage, credit, team
from ccpo.advantage import Messages, centred
from ccpo.tree import Structure, Tree, make_tree

TEAMS = {"think_solve": (16, 1), "reasoner_actor": (4, 4), "vote": (16, 1, 1)}


def tree_of(name: str, tasks: int, rng: np.random.Generator) -> Tree:
    """A random tree of a team: every task's factual episodes, breadth first, then as many solo
    messages of the last agent.
    """
    fanout = TEAMS[name]
    columns = []
    parents = []
    width = 1
    offset = 0
    for turn, n in enumerate(fanout):
        before = offset - width * tasks + np.arange(width * tasks)
        task = np.repeat(np.arange(tasks), width * n)
        parents.append(np.repeat(before, n) if turn else np.full(len(task), -1))
        columns.append(
            np.stack(
                [task, np.full(len(task), turn), np.full(len(task), turn), np.full(len(task), -1)]
            )
        )
        width *= n
        offset += len(task)
    if name != "vote":
        task = np.repeat(np.arange(tasks), width)
        last = len(fanout) - 1
        columns.append(
            np.stack(
                [task, np.full(len(task), last), np.full(len(task), last), np.zeros(len(task), int)]
            )
        )
        parents.append(np.full(len(task), -1))
    task, turn, agent, removed = np.concatenate(columns, 1)
    answer = rng.integers(-1, 3, len(task))
    reward = (answer == 0).astype(float)
    tree = make_tree(
        Structure(
            task=task, parent=np.concatenate(parents), turn=turn, agent=agent, removed=removed
        ),
        leaf_reward=reward,
        answer=answer,
    )
    shares = rng.integers(1, 10, len(task)) / 10  # as rated, a tenth of them invalid
    shares[rng.random(len(task)) < 0.1] = np.nan
    rating = np.stack([shares, 1 - shares] + [np.full(len(task), np.nan)] * (name == "vote"), 1)
    return dataclasses.replace(tree, value=rng.random(len(task)), rating=rating)


def milliseconds(work: Callable[[], object], repetitions: int) -> float:
    """Median wall time of one call."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tasks", type=int, default=192)
    options.add_argument("--times", type=int, default=100)
    chosen = options.parse_args()
    rng = np.random.default_rng(0)
    trees = {
        k: [tree_of(k, n, rng) for n in (chosen.tasks, chosen.tasks * chosen.times)] for k in TEAMS
    }
    print(
        f"{'credit':>10} {'team':>15} {'messages':>9} {'ms':>8} {f'ratio at x{chosen.times}':>14}"
    )
    for name in credit.names():
        method = credit.load(name)
        params = {
            k: p.default
            for k, p in inspect.signature(method.credit).parameters.items()
            if p.kind is p.KEYWORD_ONLY
        }
        for kind, (small, large) in trees.items():
            try:
                method.plan(team.load(kind).team(), TEAMS[kind], **params)
            except ValueError:
                continue

            def work(tree: Tree) -> np.ndarray:
                past = (method.remember(tree, {}, **params),) if hasattr(method, "remember") else ()  # noqa: B023
                return centred(*method.credit(tree, *past, **params))  # noqa: B023

            one = milliseconds(functools.partial(work, small), 21)
            many = milliseconds(functools.partial(work, large), 3)
            print(f"{name:>10} {kind:>15} {len(small):9,d} {one:8.2f} {many / one:14.1f}")
    tree = trees["think_solve"][0]
    value, group = credit.load("shared").credit(tree)
    tokens = rng.integers(1, 40, len(tree))
    messages = Messages(value, group, tokens, tree.value)
    for name in advantage.names():
        past = {"mean": 0.0, "variance": 1.0}
        took = milliseconds(functools.partial(advantage.compute, name, messages, past), 21)
        print(f"advantage {name:>20} {len(tree):5,d} {took:8.2f}")


if __name__ == "__main__":
    main()
