"""MATH500: 500 problems of the MATH test set (Hendrycks et al. 2021, arXiv 2103.03874; split by
Lightman et al. 2023, arXiv 2305.20050).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ccpo.benchmark import BOXED, Only, Source, Task, _math, github, known

VERSION = 2
SOURCES = {
    "test": Source(
        github(
            "hkust-nlp/simpleRL-reason",
            "cf1c7858bfc145a27aa733e75d930d34f0d318a6",
            "examples/simplelr_math_eval/data/math500/test.jsonl",
        ),
        "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
        "math500/test.jsonl",
        500,
        "MIT",
    ),
}
SPLITS = {"test": 500}
FORM = BOXED
DEFECTS = (
    "The figure of 42 items is given as code only, that of geometry/817 not at all (marked). Ids "
    "are unique, every answer is the last box of its solution. All items are of the MATH test set, "
    "so a model trained on 12,500-row mirrors of MATH (train and test) has seen them."
)
_DEFECTS = {"test/geometry/817.json": "its figure is missing"}
EXAMPLES = [
    ("So the point is \\boxed{(3, \\pi/2)}", "\\left( 3, \\frac{\\pi}{2} \\right)", "tuple", True),
    ("\\boxed{q-p}", "p - q", "expression", False),
    ("The answer is 90 degrees.", "90^\\circ", "number", True),
]
demos = _math.demos


def tasks(split: str, raw: Mapping[str, Path], *, only: Only = "all") -> list[Task]:
    """All tasks, in the order of the file."""
    rows = map(json.loads, raw[split].read_text(encoding="utf-8").splitlines())
    items = [
        Task(
            r["unique_id"],
            r["problem"],
            r["answer"],
            _math.kind_of(r["answer"], r["problem"]),
            defect=_math.defect(r["problem"]),
        )
        for r in rows
    ]
    return known(items, _DEFECTS, only)
