"""Verdicts a second on one core, against calling math-verify in a loop, and bulk grading on all
cores. `python benchmarks/verify.py`

Answers are made from the truths of public sets (CCPO_DATA_MIRROR names a folder with them, or they
are fetched): written otherwise, or wrong. Every pair is asked of both contestants in one run.
"cold" is the first time a pair is asked, "cached" the second.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import itertools
import logging
import resource
import time
from collections.abc import Iterator

from ccpo import benchmark
from ccpo.benchmark import Task
from ccpo.data.door import fetch
from ccpo.grade import verifier
from ccpo.grade.sandbox import programs

Item = tuple[str, str, str, float]


def tasks(name: str, split: str) -> list[Task]:
    """Usable-looking tasks of a split."""
    module = benchmark.load(name)
    found = module.tasks(split, {key: fetch(source) for key, source in module.SOURCES.items()})
    return [t for t in found if t.truth and not t.flaw]


def messages(found: list[Task]) -> Iterator[Item]:
    """For each task a right answer written otherwise, and a wrong one."""
    for task in found:
        other = (
            task.truth.replace("\\frac", "\\dfrac").replace(",", ", ")
            if task.kind != "number"
            else f" {task.truth} "
        )
        yield f"So we get \\boxed{{{other}}}.", task.truth, task.kind, task.tolerance
        wrong = (
            {"A": "B"}.get(task.truth, "A")
            if task.kind == "choice"
            else f"{task.truth}+1"
            if task.kind != "number"
            else f"1{task.truth}"
        )
        yield f"So we get \\boxed{{{wrong}}}.", task.truth, task.kind, task.tolerance


def rate(items: list[Item]) -> tuple[float, float, int]:
    """Verdicts a second the first time and the second, and how many are right."""
    out = []
    for _ in range(2):
        start = time.perf_counter()
        right = sum(verifier.verify(*item).correct for item in items)
        out.append(len(items) / (time.perf_counter() - start))
    return out[0], out[1], right


def loop(items: list[Item]) -> tuple[float, int]:
    """math-verify as its README shows it: parse both, verify, default limits."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    parse("$1$")
    start = time.perf_counter()
    right = sum(verify(parse(f"${truth}$"), parse(text)) for text, truth, _, _ in items)
    return len(items) / (time.perf_counter() - start), right


def bulk(n: int, workers: int) -> tuple[float, float]:
    """Seconds for `n` verdicts, and the largest resident memory of this process so far, MB."""
    source = itertools.islice(
        itertools.cycle(messages(tasks("math500", "test") + tasks("gsm8k", "test"))), n
    )
    start = time.perf_counter()
    graded = sum(1 for _ in verifier.verify_many(source, workers))
    assert graded == n
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--tasks", type=int, default=250, help="tasks of each set")
    arguments.add_argument("--bulk", type=int, default=100_000, help="answers of the bulk run")
    a = arguments.parse_args()
    print(
        f"{'set':22}{'kind':>12}{'pairs':>7}{'cold /s':>10}{'cached /s':>12}"
        f"{'math-verify loop /s':>21}{'cold : loop':>13}"
    )
    for name, split in (
        ("gsm8k", "test"),
        ("math500", "test"),
        ("minerva_math", "test"),
        ("logiqa", "test"),
    ):
        items = list(messages(tasks(name, split)[: a.tasks]))
        # the worker is up before anybody's time runs
        verifier.equal("\\sqrt{8}", "2\\sqrt{2}", "expression")
        cold, cached, right = rate(items)
        theirs, also = loop(items) if name != "logiqa" else (float("nan"), 0)
        kind = "choice" if name == "logiqa" else "mathematics"
        print(
            f"{name:22}{kind:>12}{len(items):7d}{cold:10.0f}{cached:12.0f}"
            f"{theirs:21.0f}{cold / theirs:12.1f}x   right {right}, loop {also}"
        )
    code = [
        (f"```python\n{t.gold}\n```", t.truth, "code", 0.0)
        for t in tasks("mbpp", "test")[: max(1, a.tasks // 5)]
    ]
    cold, cached, right = rate(code)
    print(
        f"{'mbpp':22}{'code':>12}{len(code):7d}{cold:10.1f}{cached:12.1f}{'-':>21}{'-':>13}   "
        f"right {right}; {programs.describe()}"
    )
    cores = os.cpu_count() or 1
    one, memory = bulk(a.bulk // 5, 1)
    many, larger = bulk(a.bulk, cores)
    slow = a.bulk // 5 / one
    fast = a.bulk / many
    print(
        f"bulk: {a.bulk // 5} answers, 1 worker: {slow:.0f} /s, {memory:.0f} MB; {a.bulk}, "
        f"{cores} workers: {fast:.0f} /s, {larger:.0f} MB"
    )
    print(
        f"bulk: {cores} workers are {fast / slow:.2f} times one; five times the answers took "
        f"{larger / memory:.2f} times the memory"
    )


if __name__ == "__main__":
    main()
