"""What C3 trains on: the training set of MATH and the dev set of CMATH as one (arXiv 2603.06859).

Each item once. The paper's code interleaved the two until both were used up, so that each item of
CMATH came about a dozen times as often as one of MATH (`merge_epoch`, an artefact that release 0.2
took out). An overlap with CMATH's test set is in it: a training needs `overlap: drop`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ccpo.benchmark import BOXED, Only, Task, _math, cmath, math_train

VERSION = 1
SOURCES = {"full": math_train.SOURCES["full"], "train": cmath.SOURCES["train"]}
SPLITS = {"train": 8100}
FORM = BOXED
DEFECTS = f"Of MATH: {math_train.DEFECTS} Of CMATH: {cmath.DEFECTS}"
EXAMPLES = [*math_train.EXAMPLES, *cmath.EXAMPLES]
demos = _math.demos


def tasks(split: str, raw: Mapping[str, Path], *, only: Only = "all") -> list[Task]:
    """Those of MATH, then those of CMATH, in the order of their files."""
    of_sets = {
        "math": math_train.tasks(split, raw, subset="full", only=only),
        "cmath": cmath.tasks(split, raw, only=only),
    }
    return [
        replace(task, task_id=f"{name}-{task.task_id}")
        for name, items in of_sets.items()
        for task in items
    ]
