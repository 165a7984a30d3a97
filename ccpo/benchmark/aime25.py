"""AIME I and II of 2025 (Mathematical Association of America): 30 problems, answers 0 to 999."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ccpo import schema
from ccpo.benchmark import BOXED, Source, Task, _math, github

VERSION = 1
SOURCES = {
    "test": Source(
        github(
            "bhai114/ccpo",
            "ea50d3ae4f6f08affb6528b69b6f40f3493bb0c9",
            "CCPO/data/aime2025_fixed.parquet",
        ),
        "1683276191ee52d3558723de1d00a9760050f0859b2a72eb1a753229113f5640",
        "aime25/aime2025_fixed.parquet",
        30,
        "unclear: text by the Mathematical Association of America; evaluation only",
    ),
}
SPLITS = {"test": 30}
FORM = BOXED
DEFECTS = (
    "Labels in the file (its data source, its split) are wrong and not used. 30 items: one "
    "is 3.3 points."
)
EXAMPLES = [
    ("\\boxed{70}", "70", "number", True),
    ("The answer is 70.", "70", "number", True),
    ("\\boxed{71}", "70", "number", False),
]
demos = _math.demos


def tasks(split: str, raw: Mapping[str, Path]) -> list[Task]:
    """All tasks, in the order of the file."""
    return [
        Task(f"{split}-{r['id']}", r["question"], r["answer"], "number")
        for r in schema.foreign_rows(raw[split])
    ]
