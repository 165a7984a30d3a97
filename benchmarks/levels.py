"""Do intervals of a level hold the truth as often as they say?
`python benchmarks/levels.py [--studies 4000] [--seed 0]`

Simulates a condition from its answers on (benchmarks/claims.py): tasks with chances of their own,
seeds that shift the accuracy, answers that are drawn. Both, other seeds and other tasks, are drawn
anew in each study, and the truth is the accuracy over all of them. Counted is how often it lies in
the two-level interval (`both`), and, of seeds that shift nothing, in that over tasks (`items`).

Prints a table in Markdown; exit code 1 if a coverage is out of its bounds. The last block, of one
answer a task, is shown without bounds: there the noise of drawing is as large as the spread of
seeds, and few seeds cannot tell the two apart. The same seed gives the same numbers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from claims import Design, answers

from ccpo.evaluate.levels import over_both, over_items

SEEDS = (3, 5, 8, 20)
TASKS = (30, 100, 500)
OFF = 0.015  # of coverage, nominal 0.95


@dataclass(frozen=True)
class Covered:
    """Shares of studies whose interval holds the truth."""

    both: float
    items: float
    inside: bool  # every end is a share


def covered(design: Design, studies: int, seed: int) -> Covered:
    """Coverage of a design's level."""
    rng = np.random.default_rng(seed)
    truth = 0.3 + 0.4 * design.level if design.sd or design.gap else design.level
    both = 0
    items = 0
    inside = True
    for _ in range(studies):
        grid = answers(design, rng)[0].mean(axis=2)  # [seeds, tasks] of one condition
        ends = (over_both(grid), over_items(grid))
        assert ends[0] is not None
        assert ends[1] is not None
        both += ends[0][0] <= truth <= ends[0][1]
        items += ends[1][0] <= truth <= ends[1][1]
        inside &= all(0 <= low <= high <= 1 for low, high in (ends[0], ends[1]))
    return Covered(both / studies, items / studies, inside)


def designs() -> Iterator[tuple[Design, bool]]:
    """Each with whether its coverage has bounds."""
    for samples, bound in ((8, True), (1, False)):
        for seeds in SEEDS:
            for tasks in TASKS:
                for sd in (0.0, 0.05):
                    yield Design(seeds, tasks, samples, sd), bound


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| seeds | tasks | answers a task | sd of seeds | both | tasks alone |")
    print("|---|---|---|---|---|---|")
    fine = True
    for design, bound in designs():
        row = covered(design, options.studies, options.seed)
        shown = f"{100 * row.items:.1f} %" if design.sd == 0 else "–"
        cells = (design.seeds, design.tasks, design.samples, design.sd, f"{100 * row.both:.1f} %")
        print(f"| {' | '.join(map(str, cells))} | {shown} |", flush=True)
        fine &= row.inside and (not bound or abs(row.both - 0.95) <= OFF)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
