"""What the benchmarks share: the machine in words, models to measure on, and paired timing."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from ccpo import benchmark
from ccpo.benchmark import Task
from ccpo.config import RunConfig, read_models
from ccpo.models import policy, prepare

Work = Callable[[], object]


def machine() -> str:
    """Processor, threads, load (what else runs shows in every second, not in a ratio), versions."""
    named = [
        line.split(":")[1].strip()
        for line in _lines("/proc/cpuinfo")
        if line.startswith("model name")
    ]
    name = named[0] if named else platform.processor() or platform.machine()
    load = f"load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores"
    return (
        f"{name}, {torch.get_num_threads()} thread, {load}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def folder(name: str) -> Path:
    """A prepared model of config/models.yaml: where the pipeline keeps it, else made once below
    scratch/.
    """
    wanted = read_models()[name]
    for place in (Path("results/models"), made := Path("scratch/benchmarks")):
        if (place / wanted.slug / "config.json").is_file():
            return place / wanted.slug
    made.mkdir(parents=True, exist_ok=True)
    prepare.prepare(wanted, made / wanted.slug)
    return made / wanted.slug


def changed_folder(source: Path, target: Path, *, endless: bool, context: int = 0) -> Path:
    """A copy of a model folder. `endless`: its end token is one that is never said, so all who load
    it draw completions of full length.
    `context`: at least so many positions; they are rotary, so a model computes as fast at more than
    it was made for.
    """
    network, tokenizer = policy.load(source)
    if endless:
        silent = next(
            i
            for i in [*tokenizer.all_special_ids[::-1], 0]
            if i not in policy.end_ids(network, tokenizer)
        )
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(silent)
        network.config.eos_token_id = network.generation_config.eos_token_id = silent
    network.config.max_position_embeddings = max(context, network.config.max_position_embeddings)
    shutil.rmtree(target, ignore_errors=True)
    policy.save(network, tokenizer, target)
    return target


def run(name: str, **changes: Any) -> RunConfig:
    """A run on arithmetic, flat, with one agent unless changed; blocks are changed key by key."""
    base: dict[str, Any] = {
        "benchmark": {"name": "arithmetic"},
        "team": "single",
        "credit": "shared",
        "model": read_models()[name].model_dump(),
        "sampling": {"max_tokens": [32]},
        "train": {"steps": 1000, "tasks": 32, "fanout": [8], "lr": 3.0e-4},
        "seed": 0,
    }
    return changed(base, **changes)


def changed(run: RunConfig | Mapping[str, Any], **changes: Any) -> RunConfig:
    """Another run: blocks are changed key by key, what has a name is replaced."""
    base = run.model_dump() if isinstance(run, RunConfig) else run
    merged = {
        k: {**base[k], **v} if isinstance(v, Mapping) and "name" not in v else v
        for k, v in changes.items()
    }
    return RunConfig.model_validate({**base, **merged})


def pool(run: RunConfig) -> list[Task]:
    """The training tasks of a run on a procedural benchmark."""
    return list(benchmark.load(run.benchmark.name).tasks("train", {}, **run.benchmark.params))


@dataclass(frozen=True)
class Taken:
    """Seconds on the wall and of the processor. On a machine that others use, too, the second is
    nearer to what the work costs.
    """

    wall: float
    cpu: float


def taken(work: Work) -> Taken:
    """What one call takes."""
    wall = time.perf_counter()
    cpu = time.process_time()
    work()
    return Taken(time.perf_counter() - wall, time.process_time() - cpu)


def alternate(contestants: Mapping[str, Work], repeats: int) -> dict[str, list[Taken]]:
    """What each contestant takes. They take turns, and take turns in going first, after one turn of
    each that does not count.
    """
    for work in contestants.values():
        work()
    found: dict[str, list[Taken]] = {name: [] for name in contestants}
    order = list(contestants)
    for turn in range(repeats):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            found[name].append(taken(contestants[name]))
    return found


def median(taken: Sequence[Taken]) -> Taken:
    """Medians of both."""
    return Taken(statistics.median(t.wall for t in taken), statistics.median(t.cpu for t in taken))


def ratio(slow: Sequence[Taken], fast: Sequence[Taken]) -> str:
    """Medians of the ratios of what was measured side by side: of wall seconds, and of processor
    seconds with the middle half of them.
    """
    wall = statistics.median(a.wall / b.wall for a, b in zip(slow, fast, strict=True))
    cpu = [a.cpu / b.cpu for a, b in zip(slow, fast, strict=True)]
    low, middle, high = statistics.quantiles(cpu, n=4) if len(cpu) > 1 else cpu * 3
    return f"{wall:6.2f}{middle:6.2f} ({low:.2f} to {high:.2f})"
