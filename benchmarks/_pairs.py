"""What the benchmarks share: the machine in words, models to measure on, and paired timing."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers

from ccpo import benchmark
from ccpo.benchmark import Task
from ccpo.config import RunConfig, read_models
from ccpo.learn import model, policy
from ccpo.learn.train import State
from ccpo.play.engine.hf import HF

Work = Callable[[], object]


def machine() -> str:
    """Processor, threads, load (what else runs shows in every second, not in a ratio), versions."""
    named = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    name = named[0] if named else platform.processor() or platform.machine()
    load = f"load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores"
    return f"{name}, {torch.get_num_threads()} thread, {load}, torch {torch.__version__}, transformers {transformers.__version__}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def folder(name: str) -> Path:
    """A prepared model of config/models.yaml: where the pipeline keeps it, else made once below scratch/."""
    wanted = read_models()[name]
    for place in (Path("results/models"), made := Path("scratch/benchmarks")):
        if (place / wanted.slug / "config.json").is_file():
            return place / wanted.slug
    made.mkdir(parents=True, exist_ok=True)
    model.prepare(wanted, made / wanted.slug)
    return made / wanted.slug


def endless(source: Path, target: Path) -> Path:
    """A copy of a model folder whose end token is one that is never said: all who load it draw completions of full length."""
    network, tokenizer = policy.load(source)
    silent = next(i for i in tokenizer.all_special_ids[::-1] + [0] if i not in policy.end_ids(network, tokenizer))
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(silent)
    network.config.eos_token_id = network.generation_config.eos_token_id = silent
    shutil.rmtree(target, ignore_errors=True)
    policy.save(network, tokenizer, target)
    return target


def run(name: str, **changes: Any) -> RunConfig:
    """A run on arithmetic, flat and with one agent unless changed; blocks are changed key by key."""
    base: dict[str, Any] = {
        "benchmark": {"name": "arithmetic"},
        "team": "single",
        "credit": "shared",
        "model": read_models()[name].model_dump(),
        "sampling": {"max_tokens": [32]},
        "train": {"steps": 1000, "tasks": 32, "fanout": [8], "lr": 3.0e-4},
        "evaluate": {"tasks": 1},
        "seed": 0,
    }
    merged = {k: {**base[k], **v} if isinstance(v, Mapping) and k in ("sampling", "train") else v for k, v in changes.items()}
    return RunConfig.model_validate({**base, **merged})


def pool(run: RunConfig) -> list[Task]:
    """The training tasks of a run on a procedural benchmark."""
    return list(benchmark.load(run.benchmark.name).tasks("train", {}, **run.benchmark.params))


def never_ending(state: State) -> None:
    """From now on no completion of this state ends before its largest number of tokens."""
    state.speakers = [replace(s, engine=HF(m, [])) for s, m in ((s, s.engine.model) for s in state.speakers)]


def seconds(work: Work) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cpu(work: Work) -> float:
    """Processor seconds of one call: on a machine that others use, too, nearer to what it costs than the clock on the wall."""
    start = time.process_time()
    work()
    return time.process_time() - start


def alternate(contestants: Mapping[str, Work], repeats: int) -> dict[str, list[float]]:
    """Wall seconds of each contestant, who take turns (and go first in turn) after one turn of each that does not count."""
    for work in contestants.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for turn in range(repeats):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            taken[name].append(seconds(contestants[name]))
    return taken


def ratio(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, float, float]:
    """Median of the ratios of what was measured side by side, and the smallest and largest of them."""
    all_of = sorted(a / b for a, b in zip(slow, fast, strict=True))
    return statistics.median(all_of), all_of[0], all_of[-1]
