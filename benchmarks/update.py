"""One update of the `tiny` team by part, and the share of its time that is matrix products. `python benchmarks/update.py`

Prints seconds of rollout, verify, credit, update and save (medians over updates), and the share of the processor time of an update that
torch's profiler counts in matrix products (addmm, mm, bmm, attention kernels). One thread.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from ccpo.config import read_experiment
from ccpo.learn import model, train
from ccpo.study import data

PRODUCTS = ("aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm", "aten::_scaled_dot_product_flash_attention_for_cpu")
BACKWARD = ("aten::_scaled_dot_product_flash_attention_for_cpu_backward",)


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--experiment", default="quickstart")
    options.add_argument("--condition", default="shared")
    options.add_argument("--updates", type=int, default=8)
    options.add_argument("--model", type=Path, help="a prepared model folder (default: results/models, else made anew)")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    run = next(iter(read_experiment(chosen.experiment).runs[chosen.condition].values()))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        weights = chosen.model or Path("results/models") / run.model.slug
        if not weights.is_dir():
            weights = scratch / "model"
            model.prepare(run.model, weights)
        data.tasks(run.benchmark, scratch / "tasks.parquet")
        pool = train.read_tasks(scratch / "tasks.parquet", "train")
        state = train.State(run, weights)
        team, parts, walls = run.build_team(), [], []
        for number in range(chosen.updates + 1):
            start = time.perf_counter()
            ledger = train.update(run, team, pool, state)
            saving = time.perf_counter()
            state.save(scratch / "checkpoints")
            ledger.timed("save", saving)
            if number:  # the first warms up
                parts.append(ledger.seconds)
                walls.append(time.perf_counter() - start)
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            train.update(run, team, pool, state)
    total = sum(e.self_cpu_time_total for e in profiled.key_averages())
    products = sum(e.self_cpu_time_total for e in profiled.key_averages() if e.key in PRODUCTS + BACKWARD)
    wall = statistics.median(walls)
    plan = run.plan()
    print(f"{run.id}, {platform.processor() or platform.machine()}, one thread, {chosen.updates} updates")
    size = sum(p.numel() for p in state.models[0].parameters())
    print(f"{run.train.tasks} tasks x {plan.episodes} episodes, {team.agents} agents, {size:,} parameters")
    print(f"{'part':10} {'seconds':>8} {'share':>6}")
    for part in ("rollout", "verify", "credit", "update", "save"):
        seconds = statistics.median(p.get(part, 0.0) for p in parts)
        print(f"{part:10} {seconds:8.3f} {seconds / wall:6.0%}")
    known = sum(statistics.median(p.get(part, 0.0) for p in parts) for part in ("rollout", "verify", "credit", "update", "save"))
    print(f"{'prompts, decoding, records':10} {wall - known:.3f}")
    print(f"{'update, whole':10} {wall:8.3f}")
    print(f"matrix products: {products / total:.0%} of the operators' time of an update")


if __name__ == "__main__":
    main()
