"""Time and memory of an update against group size, completion length and ranks, and over 200
updates. `python benchmarks/scale.py`

The model is as wide as SmolLM2-135M (hidden 576, 49,152 words) and two layers deep, with random
weights, in float32: what fills memory is its activations and logits, not its depth. Each row is a
process of its own (two with two ranks, launched by torchrun), one thread each. `peak` is the
largest resident memory of a process, 550 MB of it weights, gradients and the optimiser's state. The
last table is one process
over many updates: resident memory should not climb.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _pairs
import psutil
import torch

from ccpo.config import RunConfig
from ccpo.learn import train
from ccpo.models import policy
from ccpo.ranks import join

ROWS = [  # samples of a task, tokens of a completion, ranks
    *((group, 16, 1) for group in (4, 16, 64)),
    *((4, tokens, 1) for tokens in (64, 256)),
    (16, 16, 2),
]
MB = 1 << 20


def wide(target: Path) -> None:
    """SmolLM2 with two of its thirty layers, and random weights."""
    from transformers import AutoModelForCausalLM

    model, tokenizer = policy.load(_pairs.folder("smollm2-135m"))
    model.config.num_hidden_layers = 2
    torch.manual_seed(0)
    policy.save(
        AutoModelForCausalLM.from_config(model.config, dtype=torch.float32), tokenizer, target
    )


def run(group: int, tokens: int, tasks: int) -> RunConfig:
    """What a row trains; the gradient is never zero, since the credit has no baseline to be taken
    out.
    """
    size = {"tasks": tasks, "fanout": [group], "lr": 1.0e-6}
    return _pairs.run(
        "smollm2-135m", advantage="none", train=size, sampling={"max_tokens": [tokens]}
    )


def resident() -> float:
    """Resident memory now, MB."""
    return psutil.Process().memory_info().rss / MB


def one(folder: Path, ranks: int, asked: RunConfig, updates: int, every: int) -> None:
    """A child's work: some updates; prints JSON with seconds of the middle one and memory, and with
    resident memory every so many.
    """
    torch.set_num_threads(1)
    here = join(ranks)
    state = train.State(asked, folder, here)
    team = asked.build_team()
    pool = _pairs.pool(asked)
    train.update(asked, team, pool, state)
    before = resident()
    taken = []
    table = []
    for number in range(1, updates + 1):
        taken.append(_pairs.taken(lambda: train.update(asked, team, pool, state)))
        if every and number % every == 0:
            table.append(resident())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    middle = _pairs.median(taken)
    if here.first:
        print(
            json.dumps(
                {
                    "wall": middle.wall,
                    "cpu": middle.cpu,
                    "peak": peak,
                    "before": before,
                    "table": table,
                }
            )
        )


def child(folder: Path, ranks: int, **asked: int) -> dict[str, Any]:
    """What a process of its own says of a row."""
    torchrun = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        if ranks > 1
        else []
    )
    words = [
        word
        for name, value in {**asked, "ranks": ranks}.items()
        for word in (f"--{name}", str(value))
    ]
    done = subprocess.run(
        [sys.executable, *torchrun, __file__, "--one", str(folder), *words],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"a row's process ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints the tables."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--updates", type=int, default=200, help="updates of the last table")
    options.add_argument("--every", type=int, default=20, help="updates between its rows")
    options.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    for name, value in (("group", 4), ("tokens", 16), ("ranks", 1), ("tasks", 2)):
        options.add_argument(f"--{name}", type=int, default=value, help=argparse.SUPPRESS)
    a = options.parse_args()
    if a.one:
        return one(a.one, a.ranks, run(a.group, a.tokens, a.tasks), a.updates, a.every)
    torch.set_num_threads(1)
    print(_pairs.machine())
    with tempfile.TemporaryDirectory() as temporary:
        wide(folder := Path(temporary) / "model")
        print(f"{'group':>6}{'tokens':>8}{'ranks':>7}{'s / update':>12}{'of CPU':>8}{'peak MB':>9}")
        for group, tokens, ranks in ROWS:
            row = child(folder, ranks, group=group, tokens=tokens, tasks=2, updates=2, every=0)
            print(
                f"{group:6}{tokens:8}{ranks:7}{row['wall']:12.2f}{row['cpu']:8.2f}{row['peak']:9.0f}",
                flush=True,
            )
        row = child(folder, 1, group=4, tokens=8, tasks=1, updates=a.updates, every=a.every)
    print(
        f"resident MB every {a.every} of {a.updates} updates (after the first: "
        f"{row['before']:.0f}):"
    )
    print("".join(f"{mb:8.0f}" for mb in row["table"]))
    half = len(row["table"]) // 2
    first, second = (statistics.mean(part) for part in (row["table"][:half], row["table"][half:]))
    print(f"second half of the updates against the first: {100 * (second / first - 1):+.2f} %")


if __name__ == "__main__":
    main()
