"""Are claims true as often as they say? `python benchmarks/claims.py [--studies 2000] [--seed 0]`

Simulates experiments from their answers on: two conditions answer the same tasks, each task has its
own chance, each seed shifts its condition's accuracy, each answer is drawn. What the statistics
make of them (ccpo/evaluate: from marks to verdicts) is counted:

- false claims of an A/A comparison, of one policy that is trained and played twice;
- coverage of the interval of a paired difference, where seeds are the larger noise: normal, or
  skewed (a gamma of shape 4, skewness 1) in both conditions; and skewed in one of them alone, whose
  difference is skewed, too: of that a t-interval of few seeds holds the truth a little less often;
- power against `stats.power`;
- false claims of equivalence where the true difference is exactly the declared effect.

Where items are the larger noise, intervals hold the truth more often than they say: a spread below
the items' noise is never believed, and the quantiles stay those of few seeds, since nobody knows
beforehand whether seeds add to it.

Prints a table in Markdown; exit code 1 if a share is out of its bounds. The same seed gives the
same numbers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ccpo.evaluate import sentences
from ccpo.evaluate import stats as st
from ccpo.evaluate.analyse import differences
from ccpo.evaluate.condition import Runs
from ccpo.evaluate.marks import Marks, Played
from ccpo.manifest import PlannedCondition
from ccpo.publish.statistics import DecodedDifference

SEEDS = (3, 5, 8, 20)
EFFECT = 0.05
FALSE = 0.065  # most false claims, nominal 0.05
OFF = 0.015  # of coverage
APART = 0.02  # of power from its formula
MORE = 4  # times as many experiments of a power, so that chance moves it by less than that
BENCHMARK = "simulated"

NOISES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(0.0, 1.0, (2, n)),
    "skewed": lambda rng, n: (rng.gamma(4.0, 1.0, (2, n)) - 4.0) / 2.0,
    "skewed in one": lambda rng, n: (
        np.sqrt(2.0) * np.array([[1.0], [0.0]]) * (rng.gamma(4.0, 1.0, (2, n)) - 4.0) / 2.0
    ),
}


@dataclass(frozen=True)
class Design:
    """How experiments are made: seeds, tasks, answers a task; `sd`, the spread of a condition's
    accuracy between seeds, and the name of its noise; `gap`, the true difference; `level`, the mean
    of the tasks' chances.
    """

    seeds: int
    tasks: int = 500
    samples: int = 8
    sd: float = 0.05
    noise: str = "normal"
    gap: float = 0.0
    level: float = 0.5

    @property
    def between(self) -> float:
        """Standard deviation between seeds of the true difference of the two conditions."""
        return float(np.sqrt(2.0)) * self.sd


def answers(design: Design, rng: np.random.Generator) -> np.ndarray:
    """Marks [conditions, seeds, tasks, samples] of one experiment. Both conditions share the tasks.
    Where seeds shift them, the tasks' chances stay far enough from 0 and 1 to be shifted.
    """
    chances = rng.beta(2 * design.level, 2 * (1 - design.level), design.tasks)
    if design.sd or design.gap:
        chances = 0.3 + 0.4 * chances
    shift = design.sd * NOISES[design.noise](rng, design.seeds)
    shift += np.array([[design.gap / 2], [-design.gap / 2]])
    drawn = rng.random((2, design.seeds, design.tasks, design.samples), dtype=np.float32)
    return (drawn < (chances + shift[:, :, None])[..., None]).astype(float)


def planned(label: str, seeds: int) -> PlannedCondition:
    """A condition of which only its evaluation matters."""
    return PlannedCondition(
        label=label,
        team="",
        credit="",
        compares="",
        model="",
        policy="",
        turns=1,
        evaluated=(BENCHMARK,),
        decodings={"t1": 1.0},
        primary="t1",
        degenerate="",
        preset="",
        runs={seed: f"{label}.s{seed}" for seed in range(seeds)},
        bases=dict.fromkeys(range(seeds), "one"),
        config={},
    )


def compared(marks: np.ndarray) -> DecodedDifference:
    """What the statistics make of an experiment's marks: the difference of its two conditions."""
    tasks = np.arange(marks.shape[2]).astype(str)
    played = Played(BENCHMARK, "t1")
    sides = [
        Runs(
            planned(label, marks.shape[1]),
            {},
            {seed: {played: Marks(tasks, values)} for seed, values in enumerate(of_seeds)},
        )
        for label, of_seeds in zip("ab", marks, strict=True)
    ]
    return differences(sides[0], sides[1], EFFECT)["t1"]


@dataclass(frozen=True)
class Counted:
    """Shares of simulated experiments: with a claim of a difference, of equivalence; whose interval
    holds the truth; and the power that the formula gives.
    """

    claims: float
    equivalent: float
    covered: float
    formula: float


def count(design: Design, studies: int, seed: int) -> Counted:
    """Shares of `studies` simulated experiments."""
    rng = np.random.default_rng([seed, design.seeds])
    rows = [compared(answers(design, rng)) for _ in range(studies)]
    verdicts = [sentences.verdict(sentences.Tested(r, r.p, None)) for r in rows]
    equal = [r.p_equivalent is not None and r.p_equivalent < 1 - st.LEVEL for r in rows]
    covered = [
        r.ci_low is not None and r.ci_high is not None and r.ci_low <= design.gap <= r.ci_high
        for r in rows
    ]
    item = float(np.sqrt(np.mean([r.item**2 for r in rows])))
    sd = float(np.hypot(design.between, item))
    return Counted(
        claims=float(np.mean([v in ("above", "below") for v in verdicts])),
        equivalent=float(np.mean(equal)),
        covered=float(np.mean(covered)),
        formula=st.power(design.gap, sd, design.seeds, 1, st.Noise(item)),
    )


@dataclass(frozen=True)
class Line:
    """A line of the table: what was counted, and the bounds that it must keep."""

    what: str
    seeds: int
    share: float
    low: float
    high: float

    @property
    def kept(self) -> bool:
        """Whether the share is within its bounds."""
        return self.low <= self.share <= self.high


def false_claims(n: int, studies: int, seed: int) -> Iterator[Line]:
    """A/A comparisons: of items alone, few and many, near 0 and 1, and with noise of seeds."""
    designs = {
        "A/A, 16 tasks of one answer": Design(n, 16, 1, 0.0),
        "A/A, 16 tasks near 0": Design(n, 16, 1, 0.0, level=0.03),
        "A/A, 16 tasks near 1": Design(n, 16, 1, 0.0, level=0.97),
        "A/A, 128 tasks of one answer": Design(n, 128, 1, 0.0),
        "A/A, 64 tasks of 8 answers": Design(n, 64, 8, 0.0),
        "A/A, seeds and items": Design(n, 128, 1, 0.03),
        "A/A, seeds foremost": Design(n),
    }
    for name, design in designs.items():
        yield Line(name, n, count(design, studies, seed).claims, 0.0, FALSE)


def coverage(n: int, studies: int, seed: int) -> Iterator[Line]:
    """Intervals of a paired difference that hold the truth."""
    for noise in NOISES:
        covered = count(Design(n, noise=noise, gap=0.04), studies, seed).covered
        low = st.LEVEL - (2 if noise == "skewed in one" else 1) * OFF
        yield Line(f"coverage, {noise}", n, covered, low, st.LEVEL + OFF)


def powers(n: int, studies: int, seed: int) -> Iterator[Line]:
    """Power at the difference that the formula finds with 80 % and about half of it; equivalence at
    the declared effect. Seeds and items are about equally large, or seeds foremost.
    """
    for name, design in (
        ("seeds foremost", Design(n, sd=0.02)),
        ("seeds and items", Design(n, 250, 1, 0.03)),
    ):
        gap = st.detectable(design.between, n) or 0.0
        for part in (0.5, 1.0):
            counted = count(replace(design, gap=part * gap), MORE * studies, seed)
            low = counted.formula - APART
            high = counted.formula + APART
            yield Line(f"power, {name}, {part:g}", n, counted.claims, low, high)
        equal = count(replace(design, gap=EFFECT), studies, seed).equivalent
        yield Line(f"false equivalence, {name}", n, equal, 0.0, FALSE)


def main() -> int:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--studies", type=int, default=2000, help="simulated experiments a line")
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    times = f"(of powers {MORE} times as many)"
    print(f"{chosen.studies} simulated experiments a line {times}, seed {chosen.seed}\n")
    print("| | seeds | share, % | must be, % | |")
    print("|---|---|---|---|---|")
    kept = True
    for kind in (false_claims, coverage, powers):
        for n in SEEDS:
            for line in kind(n, chosen.studies, chosen.seed):
                bounds = f"{100 * line.low:.1f} to {100 * line.high:.1f}"
                verdict = "" if line.kept else "OUT"
                print(f"| {line.what} | {n} | {100 * line.share:.1f} | {bounds} | {verdict} |")
                kept &= line.kept
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
