"""LogiQA (Liu et al. 2020, arXiv 2007.08124): questions on logic of the Chinese civil-service exam,
in English, four options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ccpo.benchmark import BOXED, Demo, Only, Source, Task, github, known

VERSION = 2
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
FORM = BOXED
LETTERS = "ABCD"
DEFECTS = (
    "Machine-translated, with untranslated Chinese in places (marked). 19 test blocks list their "
    "options in the order A, C, B, D, and the key names the label (192 has one answer, G, which is "
    "the third line and B): they are put in order here. In 9 further test blocks and 14 of the "
    "validation split a label is malformed or stands inside the sentence ('Storehouse B.3'), and "
    "is taken out; validation 591 loses its subject so ('After Mr.A.became famous'; marked). "
    "Names in passages are listed as 'A.B, C and D'. Four validation items have two equal options "
    "(marked). 651 test questions stand on 557 passages, so they are not independent. Keys of the "
    "validation split are skewed (d: 270 of 651). The training split was not to be had."
)
_DEFECTS = {"validation-591": "an option has no subject"}
EXAMPLES = [
    ("The answer is (B).", "B", "choice", True),
    ("\\boxed{B. The leisure area}", "B", "choice", True),
    ("\\boxed{A} or \\boxed{C}", "A", "choice", False),
]


def tasks(split: str, raw: Mapping[str, Path], *, only: Only = "all") -> list[Task]:
    """All tasks of a split: blocks of eight lines (blank, key, passage, question, four options)."""
    lines = raw[split].read_text(encoding="utf-8").split("\n")
    blocks = [lines[i : i + 8] for i in range(0, len(lines) - 7, 8)]
    items = [
        _task(f"{split}-{i}", *(line.strip() for line in block[1:]))
        for i, block in enumerate(blocks)
    ]
    return known(items, _DEFECTS, only)


def _task(task_id: str, key: str, passage: str, question: str, *options: str) -> Task:
    texts = _lettered(options)
    listed = "\n".join(f"{letter}. {texts[letter]}" for letter in LETTERS)
    text = f"{passage}\n{question}\n{listed}\nAnswer with the letter of one option."
    defect = ""
    if len(set(texts.values())) < len(LETTERS):
        defect = "two options are equal"
    elif re.search(r"[\u4e00-\u9fff]", text):
        defect = "not translated in full"
    return Task(task_id, text, key.upper(), "choice", defect=defect)


def _lettered(options: Sequence[str]) -> dict[str, str]:
    """The options without their labels, by letter: the label's where the four are A to D in any
    order, else the line's.
    """
    labels = [re.match(r"([A-D])\s*[.,:)、?？]", option) for option in options]
    letters = [label[1] for label in labels if label]
    if sorted(letters) != list(LETTERS):
        letters = list(LETTERS)
    return {
        letter: _unlabelled(letter, option) for letter, option in zip(letters, options, strict=True)
    }


def _unlabelled(letter: str, option: str) -> str:
    """An option without its label: "A.", "a.", "A?", "A " at its beginning, else "A." inside of the
    sentence, where the translation left it ("The economic income of D.S City").
    """
    for label in (rf"^{letter}\s*[.,:)、?？]\s*", rf"^{letter.lower()}\.\s*", rf"^{letter}\s+"):
        if re.match(label, option):
            return re.sub(label, "", option, count=1)
    return re.sub(rf"(?<![A-Za-z]){letter}\.", "", option, count=1)


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


def demos(n: int, *, only: Only = "all") -> list[Demo]:
    """At most two demonstrations, written for this project: none is an item of the set.

    Raises:
        ValueError: more are asked for.
    """
    if n > len(_DEMOS):
        raise ValueError(f"logiqa: {n} demonstrations asked for, {len(_DEMOS)} exist")
    return _DEMOS[:n]
