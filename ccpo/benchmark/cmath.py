"""CMATH (Wei et al. 2023, arXiv 2306.16636): Chinese elementary-school word problems. The dev set
is learnt from, as C3 does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ccpo.benchmark import BOXED, Only, Source, Task, _math, github, known

VERSION = 2
SOURCES = {
    "train": Source(
        github(
            "XiaoMi/cmath", "9fa13ef0b2d03f5a18c1ace7001248d3981d65ea", "datasets/cmath_dev.jsonl"
        ),
        "b9c6333a31fd740e7f5b5a71022bd59e00748798a3377364346d280549b25e3b",
        "cmath/cmath_dev.jsonl",
        600,
        "CC BY 4.0",
    ),
    "test": Source(
        github(
            "deepseek-ai/DeepSeek-Math",
            "b8b0f8ce093d80bf8e9a641e44142f06d092c305",
            "evaluation/datasets/cmath/test.jsonl",
        ),
        "cabe17c127c3227912b3384f4755e180f3aa0d9e5865677e7e5e223439bf15eb",
        "cmath/test.jsonl",
        1098,
        "CC BY 4.0",
    ),
}
SPLITS = {"train": 600, "test": 1098}
FORM = BOXED
DEFECTS = (
    "Test rows 318, 798 and 989 are dev items too: a training on this set needs `overlap: drop`. "
    "Test row 961 repeats row "
    "943. Fractions among the keys are not reduced. C3's pinned copy had no keys and took its "
    "test set from the dev set. Keys are bare numbers. Five items name several units and ask for "
    "none (marked); where one unit is named and none asked for, it is that one."
)
_UNITS = "several units are in the question, and none is asked for"
_DEFECTS = dict.fromkeys(("test-583", "test-640", "test-1023", "train-552", "train-593"), _UNITS)
EXAMPLES = [
    ("一共有18包。\\boxed{18}", "18", "number", True),
    ("答案是1/3。", "2/6", "number", True),
    ("\\boxed{40}", "40%", "number", True),
    ("答案：19", "18", "number", False),
]
demos = _math.demos


def tasks(split: str, raw: Mapping[str, Path], *, only: Only = "all") -> list[Task]:
    """All tasks of a split, in the order of the file."""
    rows = map(json.loads, raw[split].read_text(encoding="utf-8").splitlines())
    items = [
        Task(
            f"{split}-{i}",
            r["input" if split == "train" else "question"],
            str(r["golden"]),
            "number",
        )
        for i, r in enumerate(rows)
    ]
    return known(items, _DEFECTS, only)
