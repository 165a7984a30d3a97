"""Do alarms cry wolf? `python benchmarks/alarms.py [--teams 200] [--seed 0]`

Simulates A/A teams, of which no alarm is true, from the marks of their answers on, and counts those
that raise any. Each kind stands where alarms are hardest to hold back:

  sound      every agent contributes, nobody leaks
  edge       everything is exactly as large as the thresholds allow: what is done to a message, how
             many answers change, how often it holds the truth, what it is worth without the
             question, what an agent has alone
  harm       every agent harms by exactly the effect

in dyads, chains of three and votes of three, each of few and of more seeds. Effects vary between
seeds; an intervention meets the same luck as the factual team. Each row may have at most 5 %: the
level that all tests of a team share. Prints a table in Markdown; exit code 1 if a row has more than
chance allows (one-sided, 99.9 %). The same seed gives the same numbers.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ccpo import intervention
from ccpo import team as teams
from ccpo.evaluate.alarms import Measured, Thresholds, raised
from ccpo.publish.statistics import FACTUAL
from ccpo.team import Team

THRESHOLDS = Thresholds(effect=0.05)
SHAPES = {
    "dyad": teams.load("think_solve").team(),
    "chain": teams.load("chain").team(agents=3),
    "vote": teams.load("vote").team(agents=3),
}
SEEDS = (3, 8)
TASKS = 100
LEVEL = 0.6  # accuracy of the factual team
CHANCE = 0.1  # of meeting a truth
SPREAD = 0.02  # of an effect between seeds


@dataclass(frozen=True)
class Kind:
    """What is true of every agent of a team: by how much the team is better as it is than when it
    is done to its message (`message`), and than it is alone (`alone`); the share of answers that
    change beyond the accuracy (`moved`); how much more often than by chance its message holds the
    truth (`leak`), and is worth without the question than an empty one with it (`stands`).
    """

    message: float
    alone: float
    moved: float
    leak: float
    stands: float


E = THRESHOLDS.effect
KINDS = {
    "sound": Kind(message=0.2, alone=0.2, moved=0.2, leak=0.0, stands=-0.2),
    "edge": Kind(message=E, alone=E, moved=0.0, leak=THRESHOLDS.leak, stands=E),
    "harm": Kind(message=-E, alone=0.2, moved=0.2, leak=0.0, stands=0.0),
}


def changed_marks(rng: np.random.Generator, factual: np.ndarray, by: float) -> np.ndarray:
    """Marks of the team under a change that takes `by` of its accuracy (or, below 0, gives it):
    of the answers that can go that way so many do, a few more or less in another seed.
    """
    towards = 0.0 if by > 0 else 1.0
    able = LEVEL if by > 0 else 1.0 - LEVEL
    share = np.clip((abs(by) + SPREAD * rng.standard_normal()) / able, 0.0, 1.0)
    goes = rng.random(factual.shape) < share
    return np.where(goes, towards, factual)


def measured(rng: np.random.Generator, team: Team, kind: Kind, seeds: int) -> Measured:
    """What is measured of one A/A team."""
    labels = [
        label
        for name in ("solo", "blank", "shuffle", "message_only")
        for label in intervention.labels(team, name)
    ]
    shape = (TASKS, 1)
    accuracy: dict[str, dict[int, np.ndarray]] = {label: {} for label in (FACTUAL, *labels)}
    moved: dict[str, dict[int, np.ndarray]] = {label: {} for label in labels}
    guessed: dict[str, dict[int, np.ndarray]] = {label: {} for label in labels}
    leaks: dict[int, dict[int, np.ndarray]] = {agent: {} for agent in range(team.agents)}
    chances: dict[int, dict[int, np.ndarray]] = {agent: {} for agent in range(team.agents)}
    for seed in range(seeds):
        factual = (rng.random(shape) < LEVEL).astype(float)
        accuracy[FACTUAL][seed] = factual
        for label in labels:
            name, _ = intervention.parse(label)
            by = {"solo": kind.alone, "message_only": kind.message - kind.stands}
            own = changed_marks(rng, factual, by.get(name, kind.message))
            accuracy[label][seed] = own
            moved[label][seed] = np.maximum(own != factual, rng.random(shape) < kind.moved) * 1.0
            guessed[label][seed] = (rng.random(shape) < CHANCE).astype(float)
        for agent in range(team.agents):
            leaks[agent][seed] = (rng.random(shape) < CHANCE + kind.leak).astype(float)
            chances[agent][seed] = (rng.random(shape) < CHANCE).astype(float)
    every = {label: {seed: np.ones(shape) for seed in range(seeds)} for label in labels}
    bases = dict.fromkeys(range(seeds), "m")
    return Measured(team, bases, accuracy, moved, every, guessed, leaks, chances)


def false_alarms(shape: str, kind: str, seeds: int, n: int, seed: int) -> Mapping[str, int]:
    """Of `n` A/A teams, how many raise any alarm (""), and each by its name."""
    rng = np.random.default_rng([seed, seeds, *map(ord, shape + kind)])
    counts: dict[str, int] = {"": 0}
    for _ in range(n):
        made = measured(rng, SHAPES[shape], KINDS[kind], seeds)
        alarms = {alarm.name for alarm in raised("c", made, {}, THRESHOLDS).alarms}
        counts[""] += bool(alarms)
        for name in alarms:
            counts[name] = counts.get(name, 0) + 1
    return counts


def allowed(n: int) -> int:
    """The most false alarms of `n` teams that chance makes of a rate at the level."""
    return int(stats.binom.ppf(0.999, n, THRESHOLDS.level))


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--teams", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    print("| shape | team | seeds | false alarms, % | which |\n|---|---|---:|---:|---|")
    worst = 0
    for shape, kind, seeds in itertools.product(SHAPES, KINDS, SEEDS):
        counts = false_alarms(shape, kind, seeds, chosen.teams, chosen.seed)
        named = ", ".join(f"{name} {n}" for name, n in counts.items() if name)
        share = 100 * counts[""] / chosen.teams
        print(f"| {shape} | {kind} | {seeds} | {share:.1f} | {named} |", flush=True)
        worst = max(worst, counts[""])
    return int(worst > allowed(chosen.teams))


if __name__ == "__main__":
    sys.exit(main())
