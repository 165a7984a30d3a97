"""Procedural logic: knights, who only tell the truth, and knaves, who only lie (Smullyan, What Is
the Name of This Book?, 1978).

Each of `people` islanders makes one statement about the others; exactly one assignment fits, found
by trying all 2**people. A puzzle belongs to the test split if the CRC-32 of its text is divisible
by five, else to train: the splits are disjoint by construction.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from ccpo.benchmark import BOXED, Demo, Source, Task

VERSION = 1
SOURCES: dict[str, Source] = {}
SPLITS = {"train": 0, "test": 0}
FORM = BOXED
DEFECTS = "None known. With four islanders a guess is right once in fifteen."
EXAMPLES = [
    ("\\boxed{Ann, Cid}", "Cid, Ann", "set", True),
    ("The answer is Ann and Cid.", "Ann, Cid", "set", True),
    ("\\boxed{Ann}", "Ann, Cid", "set", False),
]

NAMES = ("Ann", "Bob", "Cid", "Dot", "Eve", "Fay")
Knights = tuple[bool, ...]


def statement(
    rng: np.random.Generator, speaker: int, people: int
) -> tuple[str, Callable[[Knights], bool]]:
    """What an islander says of one or two others, and whether it is true of an assignment."""
    others = [i for i in range(people) if i != speaker]
    a, b = (int(i) for i in rng.choice(others, 2, replace=len(others) < 2))
    first = NAMES[a]
    second = NAMES[b]
    forms: list[tuple[str, Callable[[Knights], bool]]] = [
        (f"{first} is a knight", lambda k: k[a]),
        (f"{first} is a knave", lambda k: not k[a]),
    ]
    if a != b:
        forms += [
            (f"{first} and {second} are both knights", lambda k: k[a] and k[b]),
            (f"at least one of {first} and {second} is a knave", lambda k: not (k[a] and k[b])),
            (f"{first} and {second} are of the same kind", lambda k: k[a] == k[b]),
            (f"if {first} is a knight, so is {second}", lambda k: not k[a] or k[b]),
        ]
    return forms[int(rng.integers(len(forms)))]


def puzzles(split: str, seed: int, *, people: int) -> Iterator[tuple[str, str]]:
    """Endless (question, knights) of a split, reproducible from `seed`; each has one solution, with
    at least one knight.
    """
    rng = np.random.default_rng([seed, zlib.crc32(split.encode())])
    while True:
        statements = [statement(rng, i, people) for i in range(people)]
        fits = [
            k
            for k in itertools.product((True, False), repeat=people)
            if all(k[i] == holds(k) for i, (_, holds) in enumerate(statements))
        ]
        lines = " ".join(f'{NAMES[i]} says: "{text}."' for i, (text, _) in enumerate(statements))
        text = f"Knights only tell the truth, knaves only lie. {lines} Name all knights."
        if (
            len(fits) == 1
            and any(fits[0])
            and (zlib.crc32(text.encode()) % 5 == 0) == (split == "test")
        ):
            yield text, ", ".join(NAMES[i] for i in range(people) if fits[0][i])


def tasks(
    split: str, raw: Mapping[str, Path], *, people: int = 4, n_train: int = 1024, n_test: int = 256
) -> list[Task]:
    """Distinct puzzles of a split.

    Raises:
        ValueError: `people` is not from 3 to 6, or more puzzles are asked for than there are.
    """
    if not 3 <= people <= len(NAMES):
        raise ValueError(f"logic: people={people}; 3 to {len(NAMES)} can be asked for")
    wanted = n_train if split == "train" else n_test
    # Of three islanders there are 566 and 126 distinct puzzles in all.
    few = 500 if split == "train" else 100
    room = few if people == 3 else 5000
    if not 0 < wanted <= room:
        raise ValueError(
            f"logic: {wanted} {split} tasks asked for; with people={people} at most {room}"
        )
    seen: dict[str, str] = {}
    for text, truth in puzzles(split, 0, people=people):
        seen.setdefault(text, truth)
        if len(seen) == wanted:
            break
    return [
        Task(f"{split}-{i}", text, truth, "set") for i, (text, truth) in enumerate(seen.items())
    ]


def demos(
    n: int, *, seed: int = 1, people: int = 4, n_train: int = 1024, n_test: int = 256
) -> list[Demo]:
    """`n` demonstrations from the train split: the plan says how to search, the answers name the
    knights.
    """
    stream = itertools.islice(puzzles("train", seed, people=people), n)
    plan = (
        "Suppose the first is a knight and follow what that says of the others. If it "
        "contradicts itself, suppose the first is a knave."
    )
    return [
        Demo(
            text,
            plan,
            f"Only this fits. \\boxed{{{truth}}}",
            f"I try who may be a knight; only this fits. \\boxed{{{truth}}}",
        )
        for text, truth in stream
    ]
