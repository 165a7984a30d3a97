"""Procedural arithmetic: a chain of additions and subtractions, worked from left to right
("7-1+9-7").

Difficulty is `operations` (steps) and `largest` (operand). Intermediate results are never negative.
An expression belongs to the test split if its CRC-32 is divisible by five, else to train: the
splits are disjoint by construction, whatever the parameters.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ccpo.benchmark import BOXED, Demo, Habit, Habits, Source, Task

VERSION = 1
SOURCES: dict[str, Source] = {}
SPLITS = {"train": 0, "test": 0}
FORM = BOXED
DEFECTS = "None known. Answers are small whole numbers, so a guess is right now and then."
EXAMPLES = [
    ("6+9=15\n\\boxed{8}", "8", "number", True),
    ("\\boxed{9}", "8", "number", False),
    ("I think it is eight", "8", "number", False),
]


def is_test(expression: str) -> bool:
    """Whether an expression belongs to the test split."""
    return zlib.crc32(expression.encode()) % 5 == 0


def steps(
    expression: str, wrong: Callable[[str, int], bool] = lambda operator, operand: False
) -> list[str]:
    """The worked steps of an expression: "7-1+9" -> ["7-1=6", "6+9=15"]. Where `wrong(operator,
    operand)` says so, a result is one too high, and the work goes on from there.
    """
    tokens = expression.replace("+", " + ").replace("-", " - ").split()
    value = int(tokens[0])
    out = []
    for operator, operand in zip(tokens[1::2], map(int, tokens[2::2]), strict=True):
        right = value + operand if operator == "+" else value - operand
        result = right + wrong(operator, operand)
        out.append(f"{value}{operator}{operand}={result}")
        value = result
    return out


def expressions(split: str, seed: int, *, operations: int, largest: int) -> Iterator[str]:
    """Endless distinct-or-not expressions of a split, reproducible from `seed`."""
    rng = np.random.default_rng([seed, zlib.crc32(split.encode())])
    while True:
        operands = rng.integers(1, largest + 1, operations + 1)
        value = int(operands[0])
        text = str(operands[0])
        for operand in operands[1:].tolist():
            minus = rng.random() < 0.5 and value >= operand
            value += -operand if minus else operand
            text += f"{'-' if minus else '+'}{operand}"
        if is_test(text) == (split == "test"):
            yield text


def tasks(
    split: str,
    raw: Mapping[str, Path],
    *,
    operations: int = 3,
    largest: int = 9,
    n_train: int = 4096,
    n_test: int = 256,
) -> list[Task]:
    """Distinct tasks of a split; at most half of all expressions of this difficulty may be asked
    for.
    """
    wanted = n_train if split == "train" else n_test
    room = largest ** (operations + 1) * 2**operations // 12
    if not 0 < wanted <= room:
        raise ValueError(
            f"arithmetic: {wanted} {split} tasks asked for; with operations={operations}, "
            f"largest={largest} at most {room}"
        )
    seen: dict[str, None] = {}
    for text in expressions(split, 0, operations=operations, largest=largest):
        seen.setdefault(text)
        if len(seen) == wanted:
            break
    return [Task(text, text, steps(text)[-1].split("=")[1], "number") for text in seen]


def chance(habit: Habit, operator: str, operand: int, largest: int) -> float:
    """Chance that a role of this habit works a step the wrong way."""
    low, high = habit.plus if operator == "+" else habit.minus
    return low + (high - low) * (operand - 1) / max(1, largest - 1)


def demo(expression: str, habits: Habits, rng: np.random.Generator, largest: int) -> Demo:
    """The plan gives all steps but the last; the conclusion goes on from there, or works alone; the
    solution gives every step. `shares` blame whose steps are wrong by themselves.
    """

    def work(habit: Habit, task: str) -> list[str]:
        return steps(
            task,
            lambda operator, operand: bool(
                rng.random() < chance(habit, operator, operand, largest)
            ),
        )

    plan = work(habits.plan, expression)[:-1]
    last = re.findall(r"[+-]\d+", expression)[-1]
    follows = plan and rng.random() >= habits.alone
    conclusion = work(habits.conclusion, plan[-1].split("=")[1] + last if follows else expression)
    solution = work(habits.solution, expression)
    right = conclusion[-1].split("=")[1] == steps(expression)[-1].split("=")[1]
    planned, concluded = (
        all(steps(line.split("=")[0])[0] == line for line in lines) for lines in (plan, conclusion)
    )
    shares = (0.5, 0.5) if planned == concluded else (0.1, 0.9) if planned else (0.9, 0.1)
    return Demo(expression, ";".join(plan), boxed(conclusion), boxed(solution), right, shares)


def boxed(work: Sequence[str]) -> str:
    """Worked steps and their last result as the answer."""
    return ";".join([*work, f"\\boxed{{{work[-1].split('=')[1]}}}"])


def demos(
    n: int,
    *,
    seed: int = 1,
    habits: Habits = Habits(),  # noqa: B008 - it is frozen
    operations: int = 3,
    largest: int = 9,
    n_train: int = 4096,
    n_test: int = 256,
) -> list[Demo]:
    """`n` demonstrations from the train split, worked by roles of the given habits (right in every
    step by default).
    """
    stream = expressions("train", seed, operations=operations, largest=largest)
    rng = np.random.default_rng([seed, zlib.crc32(b"habits")])
    return [demo(next(stream), habits, rng, largest) for _ in range(n)]
