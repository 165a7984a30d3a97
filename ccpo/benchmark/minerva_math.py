"""Minerva (OCWCourses, Lewkowycz et al. 2022, arXiv 2206.14858): undergraduate science problems of
MIT OpenCourseWare.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from ccpo.benchmark import BOXED, Source, Task, _math, github

VERSION = 2
SOURCES = {
    "test": Source(
        github(
            "QwenLM/Qwen2.5-Math",
            "a45202bd16f1ec06f433442dc1152d0074773465",
            "evaluation/data/minerva_math/test.jsonl",
        ),
        "0e656b430d3a0a1dab6aa853f453ba3805e28e2cabe4fc72486a897cc09d8ba2",
        "minerva_math/test.jsonl",
        272,
        "unclear: MIT OpenCourseWare text (CC BY-NC-SA 4.0); evaluation only",
    ),
}
SPLITS = {"test": 272}
FORM = BOXED
DEFECTS = (
    "The key stands only in the box of the solution. Numbers are rounded by their authors, so a "
    "relative error of 1 % is "
    "declared for keys written as decimals, or a better answer may round to the key; whole "
    "numbers and formulas are exact. "
    "One key is a NumPy expression and one has stray dollar signs: both are written as LaTeX "
    "here. Many keys depend on "
    "letters that the question names."
)
EXAMPLES = [
    ("\\boxed{4.5 \\times 10^{33}}", "4.5e33", "number", True),
    ("\\boxed{4.5 \\times 10^{32}}", "4.5e33", "number", False),
    ("\\boxed{e^{t}/3}", "\\frac{1}{3} e^{t}", "expression", True),
    ("\\boxed{SRMC=MR}", "MR=SRMC", "equation", True),
]
demos = _math.demos


_TOLERANCE = 0.01


def tasks(split: str, raw: Mapping[str, Path]) -> list[Task]:
    """All tasks, in the order of the file."""
    out = []
    for row in map(json.loads, raw[split].read_text(encoding="utf-8").splitlines()):
        truth = (
            _math.boxed(row["solution"])
            .replace("np.arcsin(10/13)", "\\arcsin(10/13)")
            .replace("+$ $", "+ ")
        )
        kind = _math.kind_of(truth)
        kind = "equation" if re.fullmatch(r"[A-Z]+=[A-Z]+", truth) else kind
        out.append(
            Task(
                f"{split}-{row['idx']}",
                row["problem"],
                truth,
                kind,
                _TOLERANCE if kind == "number" or re.search(r"\d\.\d", truth) else 0.0,
            )
        )
    return out
