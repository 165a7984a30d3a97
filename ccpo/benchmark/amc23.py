"""AMC 12 of 2023 (Mathematical Association of America): the 40 problems whose answers are whole
numbers.
"""

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
            "evaluation/data/amc23/test.jsonl",
        ),
        "43707e1ca784602d8479de24ee8ce36609dbebc46dd152b0b12a46611aa898a4",
        "amc23/test.jsonl",
        40,
        "unclear: text by the Mathematical Association of America; evaluation only",
    ),
}
SPLITS = {"test": 40}
FORM = BOXED
DEFECTS = (
    "Answers are stored as floating-point numbers (27.0), all of them whole. 40 items: one "
    "is 2.5 points."
)
EXAMPLES = [
    ("\\boxed{27}", "27", "number", True),
    ("\\boxed{27.0}", "27", "number", True),
    ("\\boxed{2.7}", "27", "number", False),
]
demos = _math.demos


def tasks(split: str, raw: Mapping[str, Path]) -> list[Task]:
    """All tasks, in the order of the file; answers are written as whole numbers."""
    rows = map(json.loads, raw[split].read_text(encoding="utf-8").splitlines())
    return [Task(f"{split}-{r['id']}", r["question"], f"{r['answer']:g}", "number") for r in rows]
