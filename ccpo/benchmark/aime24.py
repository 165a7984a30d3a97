"""AIME I and II of 2024 (Mathematical Association of America): 30 problems, answers 0 to 999."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ccpo.benchmark import BOXED, Source, Task, _math, github

VERSION = 1
SOURCES = {
    "test": Source(
        github(
            "QwenLM/Qwen2.5-Math",
            "a45202bd16f1ec06f433442dc1152d0074773465",
            "evaluation/data/aime24/test.jsonl",
        ),
        "af2b8bd2aa911b6333ad0df32f3ca05c7ae8ed10f1731f4372c8ae26990bf7ac",
        "aime24/test.jsonl",
        30,
        "unclear: text by the Mathematical Association of America; evaluation only",
    ),
}
SPLITS = {"test": 30}
FORM = BOXED
DEFECTS = (
    "Keys are zero-padded (025), which is taken off. 30 items: one is 3.3 points, so a "
    "mean over few samples says little."
)
EXAMPLES = [
    ("\\boxed{25}", "25", "number", True),
    ("\\boxed{025}", "25", "number", True),
    ("\\boxed{250}", "25", "number", False),
]
demos = _math.demos


def tasks(split: str, raw: Mapping[str, Path]) -> list[Task]:
    """All tasks, in the order of the file."""
    rows = map(json.loads, raw[split].read_text(encoding="utf-8").splitlines())
    return [
        Task(f"{split}-{r['id']}", r["question"], str(int(r["answer"])), "number") for r in rows
    ]
