"""Does a run learn with vLLM as it does with transformers? `.venv-vllm/bin/python
benchmarks/engines.py`

Trains a dyad of a small warm-started model with either engine, from the same seeds on the same
tasks, and prints for each seed the reward of the last updates and the accuracy of the final policy
on test tasks (drawn by transformers for both), then the paired differences, vllm - hf, with their
95 % t-intervals; and what an update took by part. One thread.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ccpo.config import RunConfig
from ccpo.data import door
from ccpo.data.tables import read_tasks
from ccpo.evaluate import stats
from ccpo.evaluate.evaluate import Episodes, judge
from ccpo.learn import train
from ccpo.models import policy, prepare
from ccpo.play.engine import vllm
from ccpo.play.engine.hf import HF
from ccpo.play.rollout import EvaluationPass, evaluate, stream
from ccpo.play.types import AgentEndpoint, Ledger, PlayingTeam

TEST_TASKS = 128
LAST = 5  # updates whose mean reward is the final one
TASK = {"name": "arithmetic", "operations": 3, "largest": 9}
MODEL = {
    "source": "warm_start",
    "benchmark": TASK,
    "teams": ["single", "think_solve"],
    "hidden": 64,
    "layers": 2,
    "heads": 2,  # 32 numbers wide, as vLLM's CPU kernels ask
    "batch": 64,
    "lr": 4e-3,
    "steps": 1000,
    "least_accuracy": 0.15,
}


def config(engine: str, seed: int, updates: int) -> RunConfig:
    """The run compared: the quickstart's dyad with the shared reward, in smaller batches."""
    return RunConfig.model_validate(
        {
            "benchmark": TASK,
            "team": "think_solve",
            "credit": "shared",
            "model": {"name": "narrow", "spec": MODEL},
            "sampling": {"max_tokens": [40, 40], "engine": engine},
            "train": {
                "steps": updates,
                "tasks": 32,
                "fanout": [8, 1],
                "lr": 5e-4,
                "warmup": 4,
                "minibatches": 2,
            },
            "seed": seed,
        }
    )


def trained(run: RunConfig, folder: Path, tasks: Path) -> dict[str, Any]:
    """Rewards of the updates, accuracy before and after, seconds by part, largest difference of
    engine and trainer log-probs.
    """
    pool = read_tasks(tasks, "train")
    state = train.State(run, folder)
    team = run.build_team()
    before = accuracy(run, state, tasks)
    parts = []
    for _ in range(run.train.steps):
        parts.append(train.update(run, team, pool, state).seconds)
    rows = [row for row in state.rows["train"] if row["agent"] == team.agents - 1]
    return {
        "rewards": [row["reward"] for row in rows],
        "before": before,
        "after": accuracy(run, state, tasks),
        "gap": max(row["logprob_gap"] for row in rows),
        "seconds": {
            part: statistics.median(p.get(part, 0.0) for p in parts)
            for part in ("rollout", "update", "refresh")
        },
    }


def accuracy(run: RunConfig, state: train.State, tasks: Path) -> float:
    """Share of test tasks answered right, drawn by transformers from the same seed for all."""
    team = run.build_team()
    items = read_tasks(tasks, "test")[:TEST_TASKS]
    truths = {("", task.task_id): task for task in items}
    endpoint = AgentEndpoint(
        HF(state.models[0], policy.end_ids(state.models[0], state.tokenizers[0])),
        state.tokenizers[0],
    )
    playing = PlayingTeam(team, [endpoint] * team.agents, 1.0, run.sampling.max_tokens)
    factual = EvaluationPass("factual", samples=4)
    rows = evaluate(playing, items, factual, stream("evaluation", 0), Ledger())
    episodes: Episodes = {}
    for row in rows:
        episodes.setdefault(("", row["task_id"], "", row["sample"], "factual"), []).append(
            dict(row)
        )
    judged = judge(team, episodes, truths, dict.fromkeys(truths))
    return float(np.mean([row["accuracy"] for row in judged]))


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--updates", type=int, default=30)
    options.add_argument(
        "--model", type=Path, help="the model, prepared before (default: prepared now)"
    )
    chosen = options.parse_args()
    torch.set_num_threads(1)
    vllm.CACHE = 1 << 26  # bytes; every training of this process keeps its engine
    first = config("hf", 0, chosen.updates)
    found: dict[str, list[dict[str, Any]]] = {"hf": [], "vllm": []}
    with tempfile.TemporaryDirectory() as folder:
        tasks = Path(folder) / "tasks.parquet"
        weights = chosen.model or Path(folder) / "model"
        door.tasks(first.benchmark, tasks)
        if not weights.is_dir():
            prepare.prepare(first.model, weights)
        machine = platform.processor() or platform.machine()
        print(
            f"{machine}, one thread, torch {torch.__version__}, {chosen.updates} updates of 32 x "
            "8 episodes"
        )
        print(
            f"{'seed':>4} {'engine':>6} {'reward, first':>13} {'last':>6} "
            f"{'accuracy before':>15} {'after':>6} {'gap':>8}"
        )
        for seed in range(chosen.seeds):
            for engine in found:
                made = trained(config(engine, seed, chosen.updates), weights, tasks)
                made["last"] = float(np.mean(made["rewards"][-LAST:]))
                found[engine].append(made)
                start = float(np.mean(made["rewards"][:LAST]))
                numbers = (
                    f"{start:13.3f} {made['last']:6.3f} {made['before']:15.3f} "
                    f"{made['after']:6.3f} {made['gap']:8.1e}"
                )
                print(f"{seed:4} {engine:>6} {numbers}", flush=True)
    for name, key in (("final reward", "last"), ("final accuracy", "after")):
        ours, theirs = (
            np.array([made[key] for made in found[engine]]) for engine in ("vllm", "hf")
        )
        gap = stats.interval(ours - theirs)
        said = (
            ""
            if gap.ci_low is None
            else f", 95 % t-interval {gap.ci_low:+.3f} to {gap.ci_high:+.3f}"
        )
        print(
            f"{name}: hf {theirs.mean():.3f}, vllm {ours.mean():.3f}; paired difference "
            f"{gap.mean:+.3f}{said} ({gap.n} seeds)"
        )
    for engine, made in found.items():
        seconds = {
            part: statistics.median(m["seconds"][part] for m in made)
            for part in ("rollout", "update", "refresh")
        }
        print(
            f"seconds of an update, {engine}: "
            + ", ".join(f"{part} {s:.3f}" for part, s in seconds.items())
        )


if __name__ == "__main__":
    main()
