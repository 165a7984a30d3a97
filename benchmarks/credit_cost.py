"""What a credit method costs: seconds, messages, tokens and evaluator calls of an update. `python
benchmarks/credit_cost.py`

The conditions of the experiment `head_to_head`, each with 8 episodes a task, as published: `ccpo`
and `ccpo_v1` ask for as many solo messages besides, `sepo` for ratings, `mappo` trains a critic,
`c3` draws a tree of 8 leaves. All play whole updates of the real loop, in turns in one run, on one
thread, on the same tasks. The learning rate is next to nothing, so that nobody's messages grow or
shrink while they are measured. `shared` is the ratio to the shared reward with the same team and 8
episodes; `equal calls` to the shared reward with as many episodes as make the same number of
evaluator calls.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
from pathlib import Path

import _pairs
import torch

from ccpo.config import read_experiment
from ccpo.learn import train
from ccpo.play.types import Ledger

CONDITIONS = {
    "ts_shared": ("magrpo", "mappo", "ccpo", "ccpo_v1", "sepo", "c3"),
    "vote_shared": ("magrpo", "mappo", "ccpo", "shapley"),
}
MORE = {
    "ts_shared x 16": ("ts_shared", [16, 1]),
    "ts_c3 4 x 4": ("ts_c3", [4, 4]),
}  # for equal calls
PARTS = ("rollout", "verify", "credit", "update")  # a critic learns in "update"


class Condition:
    """One condition's updates."""

    def __init__(self, name: str, tasks: int, folder: Path) -> None:
        base, fanout = MORE.get(name, (name, None))
        run = next(iter(read_experiment("head_to_head").runs[base].values()))
        size = {
            "tasks": tasks,
            "lr": 1.0e-9,
            "steps": 1000,
            "tokens": None,
            **({"fanout": fanout} if fanout else {}),
        }
        self.run = _pairs.changed(run, train=size)
        self.team = self.run.build_team()
        self.pool = _pairs.pool(self.run)
        self.state = train.State(self.run, folder)
        self.ledgers: list[Ledger] = []

    def update(self) -> None:
        """One update; its ledger is kept."""
        self.ledgers.append(train.update(self.run, self.team, self.pool, self.state))

    def mean(self, count: str) -> float:
        """Mean of a count over the measured updates."""
        return statistics.mean(ledger.total(count) for ledger in self.ledgers[1:])

    def part(self, name: str) -> float:
        """Median seconds of a part of an update."""
        return statistics.median(ledger.seconds.get(name, 0.0) for ledger in self.ledgers[1:])


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--tasks", type=int, default=16, help="tasks of an update")
    options.add_argument("--turns", type=int, default=7, help="updates of each condition")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    folder = _pairs.folder("tiny_teams")
    base = {
        f"{shared.split('_')[0]}_{m}": shared
        for shared, methods in CONDITIONS.items()
        for m in ("shared", *methods)
    }
    base |= dict.fromkeys(MORE, "ts_shared")
    conditions = {name: Condition(name, chosen.tasks, folder) for name in base}
    timings = _pairs.alternate({name: c.update for name, c in conditions.items()}, chosen.turns)
    print(_pairs.machine())
    print(
        f"tiny_teams, {chosen.tasks} tasks an update, {chosen.turns} updates of each condition; "
        "parts are wall seconds"
    )
    head = (
        f"{'condition':16}{'fan-out':>8}{'generated':>10}{'prompt':>8}{'calls':>6}{'s':>7}"
        + "".join(f"{part:>8}" for part in PARTS)
    )
    print(f"{head}  {'/ shared: wall, processor':27}/ equal calls")
    for name, shared in base.items():
        condition = conditions[name]
        calls = condition.mean("evaluator_calls")
        peer = next(
            (
                k
                for k in base
                if k.partition(" ")[0] == shared and conditions[k].mean("evaluator_calls") == calls
            ),
            None,
        )
        fanout = "x".join(map(str, condition.run.train.fanout))
        wall = _pairs.median(timings[name]).wall
        tokens = [condition.mean(f"{kind}_tokens") for kind in ("generated", "prompt")]
        counts = f"{tokens[0]:10.0f}{tokens[1]:8.0f}{calls:6.0f}"
        parts = "".join(f"{condition.part(part):8.3f}" for part in PARTS)
        equal = _pairs.ratio(timings[name], timings[peer]) if peer else "no peer"
        print(
            f"{name:16}{fanout:>8}{counts}{wall:7.3f}{parts}  "
            f"{_pairs.ratio(timings[name], timings[shared]):27}{equal}"
        )


if __name__ == "__main__":
    main()
