"""What statistics cost: `python benchmarks/stats.py`

All statistics of ten conditions of 20 seeds that were played on 12 benchmarks of 1,000 tasks: from
tables in memory to the typed document, nine comparisons included. It must take less than 10 s.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

import numpy as np
import pandas as pd

from ccpo.evaluate.analyse import runs_there, statistics
from ccpo.manifest import PlannedCondition, PlannedProtocol, TrainingManifest

LIMIT = 10.0  # processor seconds
STEPS = 100  # updates


def planned(label: str, seeds: int, benchmarks: int) -> PlannedCondition:
    """A condition that was played greedily on each benchmark."""
    return PlannedCondition(
        label=label,
        team="think_solve",
        credit="ccpo",
        compares="group",
        model="tiny",
        policy="separate",
        turns=2,
        evaluated=tuple(f"benchmark{b}" for b in range(benchmarks)),
        decodings={"greedy": 0.0},
        primary="greedy",
        degenerate="",
        preset="",
        runs={seed: f"{label}.s{seed}" for seed in range(seeds)},
        bases=dict.fromkeys(range(seeds), "tiny"),
        config={},
    )


def tables(rng: np.random.Generator, benchmarks: int, tasks: int) -> dict[str, pd.DataFrame]:
    """The tables of a run, of invented numbers."""
    names = np.repeat([f"benchmark{b}" for b in range(benchmarks)], tasks)
    scores = pd.DataFrame(
        {
            "benchmark": names,
            "task_id": np.tile([f"task{t}" for t in range(tasks)], benchmarks),
            "decoding": "greedy",
            "sample": 0,
            "intervention": "factual",
            "accuracy": (right := (rng.random(len(names)) < 0.6)).astype(float),
            "ballot": np.where(right, 0, 1),
            "leakage": 0.0,
            "leakage_by_chance": 0.0,
            "late": 0,
            "defect": np.tile(np.arange(tasks) < tasks // 20, benchmarks),
            "n_tokens": 10,
            "logprob": -1.0,
        }
    )
    train = pd.DataFrame(
        {
            "step": np.repeat(np.arange(1, STEPS + 1), 2),
            "agent": np.tile([0, 1], STEPS),
            "reward": rng.random(2 * STEPS),
            "credit": rng.normal(size=2 * STEPS),
            "role_information": rng.random(2 * STEPS),
            "leakage": 0.0,
            "late": 0,
            "generated_tokens": np.repeat(np.arange(1, STEPS + 1), 2) * 1000,
        }
    )
    ledger = pd.DataFrame(
        {
            "step": np.arange(1, STEPS + 1),
            "agent": 0,
            "purpose": "rollout",
            "prompt_tokens": 100,
            "generated_tokens": 1000,
            "trained_tokens": 1000,
            "evaluator_calls": 8,
        }
    )
    graders = scores.assign(c3=scores.accuracy, ccpo=scores.accuracy)
    return {"train": train, "ledger": ledger, "scores": scores, "graders": graders}


def main() -> int:
    """Prints the seconds; exit code 1 if they are too many."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--conditions", type=int, default=10)
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--benchmarks", type=int, default=12)
    options.add_argument("--tasks", type=int, default=1000)
    chosen = options.parse_args()
    rng = np.random.default_rng(0)
    labels = [f"c{i}" for i in range(chosen.conditions)]
    manifest = TrainingManifest(
        experiment="large",
        question="How long do statistics take?",
        note="",
        primary_metric="accuracy",
        token_tolerance=0.1,
        effect=0.05,
        compare=tuple((label, labels[0]) for label in labels[1:]),
        protocols=(PlannedProtocol(id="p", name="p", decodings={"greedy": 0.0}, config={}),),
        conditions=tuple(planned(label, chosen.seeds, chosen.benchmarks) for label in labels),
    )
    made = {
        label: {seed: tables(rng, chosen.benchmarks, chosen.tasks) for seed in range(chosen.seeds)}
        for label in labels
    }
    start = time.perf_counter()
    begun = time.process_time()
    numbers = statistics(manifest, runs_there(manifest, made))
    seconds = time.process_time() - begun
    wall = time.perf_counter() - start
    verdicts = dict(Counter(row.verdict for row in numbers.comparisons))
    print(
        f"{chosen.conditions} conditions x {chosen.seeds} seeds x {chosen.benchmarks} benchmarks x "
        f"{chosen.tasks} tasks: {seconds:.1f} processor seconds (limit {LIMIT:g}), {wall:.1f} s by "
        f"the clock; verdicts {verdicts}"
    )
    return 0 if seconds < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
