"""LogiQA (Liu et al. 2020, arXiv 2007.08124): questions on logic of the Chinese civil-service exam,
in English, four options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ccpo.benchmark import BOXED, Demo, Source, Task, github

VERSION = 1
SOURCES = {
    "test": Source(
        github("lgw863/LogiQA-dataset", "ff6c4cbca47627b3ac2da94a29fa28204a167b41", "Test.txt"),
        "359acb78c37802208f7fde9e2f6574b8526527c63d6a336f90a53f1932cb4701",
        "logiqa/Test.txt",
        651,
        "none stated; evaluation only",
    ),
    "validation": Source(
        github("lgw863/LogiQA-dataset", "ff6c4cbca47627b3ac2da94a29fa28204a167b41", "Eval.txt"),
        "4c49e6753b7262c001506b9151135abf722247035ab075dad93acdea5789c01f",
        "logiqa/Eval.txt",
        651,
        "none stated; evaluation only",
    ),
}
SPLITS = {"test": 651, "validation": 651}
HELD_OUT = True
FORM = BOXED
DEFECTS = (
    "Machine-translated, with untranslated Chinese in places. 28 test blocks have a malformed "
    "prefix before an option, so "
    "options are told apart by their lines. Four validation items have two equal options. 651 "
    "test questions stand on 557 "
    "passages, so they are not independent. Keys of the validation split are skewed (d: 270 of "
    "651). The training split was "
    "not to be had."
)
EXAMPLES = [
    ("The answer is (B).", "B", "choice", True),
    ("\\boxed{B. The leisure area}", "B", "choice", True),
    ("\\boxed{A} or \\boxed{C}", "A", "choice", False),
]


def tasks(split: str, raw: Mapping[str, Path]) -> list[Task]:
    """All tasks of a split: blocks of eight lines (blank, key, passage, question, four options)."""
    lines = raw[split].read_text(encoding="utf-8").split("\n")
    blocks = [lines[i : i + 8] for i in range(0, len(lines) - 7, 8)]
    return [
        _task(f"{split}-{i}", *(line.strip() for line in block[1:]))
        for i, block in enumerate(blocks)
    ]


def _task(task_id: str, key: str, passage: str, question: str, *options: str) -> Task:
    bare = [
        re.sub(rf"^{c}\s*[.,:)、]\s*", "", option)
        for c, option in zip("ABCD", options, strict=True)
    ]
    listed = "\n".join(f"{c}. {option}" for c, option in zip("ABCD", bare, strict=True))
    return Task(
        task_id,
        f"{passage}\n{question}\n{listed}\nAnswer with the letter of one option.",
        key.upper(),
        "choice",
    )


_DEMOS = [
    Demo(
        "All of Ann's books are old. This book is new.\nWhat follows?\nA. This book is not "
        "Ann's.\nB. Ann has no books.\nC. Ann sold it.\n"
        "D. This book is good.\nAnswer with the letter of one option.",
        "If the book were Ann's it would be old. Compare that with what is said of it.",
        "It is new, so it is not Ann's. \\boxed{A}",
        "Ann's books are old, this one is new, so it is not hers. \\boxed{A}",
    ),
    Demo(
        "If it rains, the match is called off. The match took place.\nWhat follows?\nA. It "
        "rained.\nB. It rained later."
        "\nC. It did not rain.\nD. Nothing follows.\nAnswer with the letter of one option.",
        "Turn the rule around: no calling off means that its condition did not hold.",
        "The match took place, so there was no rain. \\boxed{C}",
        "Rain would have called it off; it took place, so it did not rain. \\boxed{C}",
    ),
]


def demos(n: int) -> list[Demo]:
    """At most two demonstrations, written for this project: none is an item of the set.

    Raises:
        ValueError: more are asked for.
    """
    if n > len(_DEMOS):
        raise ValueError(f"logiqa: {n} demonstrations asked for, {len(_DEMOS)} exist")
    return _DEMOS[:n]
