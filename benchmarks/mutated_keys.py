"""Wrong accepts on wrong answers that look like keys: every key of every set with a digit, a sign,
a function, a letter or a bracket changed, in a box, against the key.
`python benchmarks/mutated_keys.py`

The sets' files are read from the folder that CCPO_DATA_MIRROR names, or fetched. What is accepted
is listed, for a person to judge: a change may leave the value as it is.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator

from ccpo import benchmark
from ccpo.benchmark import Task
from ccpo.data.door import fetch
from ccpo.grade import verifier

_FUNCTIONS = {"\\sin": "\\cos", "\\cos": "\\sin", "\\sqrt": "", "\\ln": "\\exp", "\\pi": "e"}
_BRACKETS = {"[": "(", "(": "[", "]": ")", ")": "]"}


def mutants(truth: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    """What was changed, and the changed key; at most one of each."""
    spots = {
        "digit": r"(?<!\\text\{ )\d",
        "sign": r"(?<=[\w)}$ ])[-+](?=[\w\\( ])",
        "letter": r"(?<![\\A-Za-z{])[a-zA-Z](?![A-Za-z])",
        "bracket": r"(?<!\\left)(?<!\\right)(?<!\\)[\[\]()]",
        "function": "|".join(re.escape(name) + "(?![A-Za-z])" for name in _FUNCTIONS),
    }
    for kind, pattern in spots.items():
        found = list(re.finditer(pattern, truth))
        if not found:
            continue
        spot = rng.choice(found)
        old = spot[0]
        new = {
            "digit": str((int(old) + rng.randint(1, 9)) % 10) if old.isdigit() else old,
            "sign": "+" if old == "-" else "-",
            "letter": "q" if old != "q" else "w",
            "bracket": _BRACKETS.get(old, old),
            "function": _FUNCTIONS.get(old, old),
        }[kind]
        yield kind, truth[: spot.start()] + new + truth[spot.end() :]
    if re.match(r"\$?[\d\\]", truth):
        yield "sign", f"-{truth.strip('$')}"


def keys() -> Iterator[tuple[str, Task]]:
    """Distinct keys of the sets that have spoken answers."""
    seen = set()
    for name in benchmark.names():
        module = benchmark.load(name)
        if not module.SOURCES or module.FORM != benchmark.BOXED:
            continue
        raw = {key: fetch(source) for key, source in module.SOURCES.items()}
        for split in module.SPLITS:
            for task in module.tasks(split, raw):
                if task.truth and not task.flaw and (task.truth, task.kind) not in seen:
                    seen.add((task.truth, task.kind))
                    yield name, task


def main() -> None:
    """Prints what is accepted, and how many were tried."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--share", type=float, default=1.0, help="of the keys that are tried")
    a = arguments.parse_args()
    rng = random.Random(0)
    tried = 0
    accepted = 0
    for name, task in keys():
        if rng.random() >= a.share or task.kind in ("choice", "text"):
            continue
        for kind, wrong in mutants(task.truth, rng):
            tried += 1
            if verifier.verify(f"\\boxed{{{wrong}}}", task.truth, task.kind).correct:
                accepted += 1
                print(f"{name} {task.task_id} ({task.kind}), {kind}: {wrong!r} for {task.truth!r}")
    print(f"{tried} mutated keys, {accepted} accepted")


if __name__ == "__main__":
    main()
