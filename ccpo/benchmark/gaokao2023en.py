"""Gaokao 2023 in English (MARIO, arXiv 2401.08190): exam questions translated from Chinese, and
SAT- and ACT-like ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ccpo import schema
from ccpo.benchmark import BOXED, Demo, Only, Source, Task, _math, github, known

VERSION = 2
SOURCES = {
    "test": Source(
        github(
            "bhai114/ccpo",
            "ea50d3ae4f6f08affb6528b69b6f40f3493bb0c9",
            "CCPO/data/Gaokao2023-Math-En.parquet",
        ),
        "e0abe635eed958c1ce27b2d36758b41e7dfdece257a873131a33274cbb08e4ac",
        "gaokao2023en/Gaokao2023-Math-En.parquet",
        385,
        "unclear: translated exam questions; evaluation only",
    ),
    "test-qwen": Source(
        github(
            "QwenLM/Qwen2.5-Math",
            "a45202bd16f1ec06f433442dc1152d0074773465",
            "evaluation/data/gaokao2023en/test.jsonl",
        ),
        "654d8f49bdb86f578c171dbc0dd8f4d9f1bf3d7a7438f60359fda7d643df4951",
        "gaokao2023en/test.jsonl",
        385,
        "unclear: as above",
    ),
}
SPLITS = {"test": 385}
FORM = BOXED
DEFECTS = (
    "Two editions are about, which are not interchangeable: they differ in 24 wordings and 9 "
    "keys (rows 1, 8, 27, 37, 59, 69, "
    "83, 89, 90). Rows 167 and 192 have no key in either and are dropped. `qwen` (Qwen2.5-Math "
    "and most of the field) has two "
    "wrong keys (rows 1 and 37); `ccpo` mends them, and writes 1 for Quadrant I (row 59). 293 "
    "rows come from SAT- and "
    "ACT-like files. Keys with prose behind them (145$solution:) are cleaned here, units are "
    "marked as such. 149 lacks the fraction that it is about, 278 its table, 116 and 305 their "
    "figures, 190 the end of its last option (marked; their keys are right)."
)
_DEFECTS = {
    "test-116": "its figure is missing",
    "test-149": "a kè is 'measuring 1 of one hour': the fraction is missing",
    "test-190": "the last option is cut off",
    "test-278": "its table is missing",
    "test-305": "its figure is missing",
}
_QWEN = {"test-1": "the key is wrong", "test-37": "the key is wrong"}
EXAMPLES = [
    ("\\boxed{[-2,1)}", "$\\{x|-2\\leq x < 1\\}$", "interval", True),
    (
        "\\boxed{\\frac{x^2}{2} - \\frac{y^2}{2} = 1}",
        "$\\frac{x^{2}}{2} - \\frac{y^{2}}{2} = 1$",
        "equation",
        True,
    ),
    ("The answer is (C)", "C", "choice", True),
    ("\\boxed{384}", "$48$, $384$", "set", False),
]


def demos(n: int, *, edition: Literal["ccpo", "qwen"] = "ccpo", only: Only = "all") -> list[Demo]:
    """As those of all mathematics benchmarks."""
    return _math.demos(n)


def tasks(
    split: str,
    raw: Mapping[str, Path],
    *,
    edition: Literal["ccpo", "qwen"] = "ccpo",
    only: Only = "all",
) -> list[Task]:
    """All tasks of an edition, in the order of its file."""
    if edition == "ccpo":
        rows = schema.foreign_rows(raw["test"])
    else:
        rows = [
            json.loads(line) for line in raw["test-qwen"].read_text(encoding="utf-8").splitlines()
        ]
    out = []
    for index, row in enumerate(rows):
        truth = re.sub(
            r"\\;?(m|cm)\^\{([23])\}",
            r"\\text{ \1}^\2",
            row["answer"].split("solution:")[0].strip(),
        )
        truth = re.sub(r"\s*\$(cm)\^\{([23])\}\$", r"\\text{ \1}^\2", truth)
        truth = re.sub(r"(?<=[\d}])(cm)\^\{([23])\}", r"\\text{ \1}^\2", truth)
        out.append(
            Task(f"{split}-{index}", row["question"], truth, _math.kind_of(truth, row["question"]))
        )
    return known(out, _DEFECTS | (_QWEN if edition == "qwen" else {}), only)
