"""The training set of MATH (Hendrycks et al. 2021, arXiv 2103.03874), and the level 3 to 5 subset
that ReMA and CCPO v1 train on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ccpo import schema
from ccpo.benchmark import BOXED, Demo, Only, Source, Task, _math, github, known

VERSION = 2
SOURCES = {
    "full": Source(
        github(
            "TianHongZXY/rl-reasoning",
            "c90ce5c4ba10fd948d64ee956d3b561f883de166",
            "data/math/train.parquet",
        ),
        "193e73f43ed976b4ceec8015a92c7f55170bb061615437bd31ca6c2a28233c09",
        "math_train/train.parquet",
        7500,
        "MIT",
    ),
    "level3to5": Source(
        github(
            "ziyuwan/ReMA-public",
            "24b5b47601c67302aea455234e66b8ff6e93f9d2",
            "data/MATH/train_lv3to5_8k.parquet",
        ),
        "979f9452b90667b674a50f2368924739a8b873422decfd2ceafdb2b32fd27f36",
        "math_train/train_lv3to5_8k.parquet",
        8523,
        "MIT",
    ),
}
SPLITS = {"train": 0}
FORM = BOXED
DEFECTS = (
    "The fixed instruction behind every question of `full` is taken off. Keys are the last box "
    "of the solution; two solutions "
    "box a digit without braces, which is read; two have an empty box and are dropped. Three "
    "questions occur twice. "
    "`level3to5` holds 2,934 problems of the original test set: fair with MATH500, not with the "
    "5,000-problem test set; its "
    "keys None are read from no solution and dropped. CCPO's own copy of the 7,500 has 20 keys "
    "from the first of several "
    "boxes and 4 empty ones; it is not offered. The figure of 707 items of `full` and 802 of "
    "`level3to5` is given as code only, that of three and two not at all; three inequalities of "
    "several letters or of numbers are compared as texts, of which one names an option by its text "
    "(full-3136) (all marked)."
)
_MISSING = "its figure is missing"
_TEXT = "the key is an inequality that is compared as a text"
_DEFECTS = {
    "full-60": _TEXT,
    "full-623": _MISSING,
    "full-2760": _MISSING,
    "full-3136": _TEXT,
    "full-3274": _MISSING,
    "level3to5-511": _TEXT,
    "level3to5-3684": _MISSING,
    "level3to5-4177": _TEXT,
    "level3to5-5367": _MISSING,
    "level3to5-7324": _TEXT,
}
EXAMPLES = [
    ("\\boxed{0}", "0", "number", True),
    ("\\boxed{2\\sqrt2}", "\\sqrt{8}", "expression", True),
    ("\\boxed{(1,2)}", "(2,1)", "tuple", False),
]
_SUFFIX = " Let's think step by step and output the final answer within \\boxed{}."


def tasks(
    split: str,
    raw: Mapping[str, Path],
    *,
    subset: Literal["full", "level3to5"] = "full",
    only: Only = "all",
) -> list[Task]:
    """All tasks of a subset (7,500 or 8,523), in the order of its file."""
    out = []
    for index, row in enumerate(schema.foreign_rows(raw[subset])):
        if subset == "full":
            question = row["prompt"][0]["content"].removesuffix(_SUFFIX)
            truth = _math.boxed(row["reward_model"]["ground_truth"]["solution"])
        else:
            question = row["question"]
            truth = (row["ground_truth_answer"] or "").strip()
        flaw = "the source has no key" if truth in ("", "None") else ""
        out.append(
            Task(
                f"{subset}-{index}",
                question,
                truth,
                _math.kind_of(truth, question) if truth else "text",
                flaw=flaw,
                defect=_math.defect(question),
            )
        )
    return known(out, _DEFECTS, only)


def demos(
    n: int, *, subset: Literal["full", "level3to5"] = "full", only: Only = "all"
) -> list[Demo]:
    """As those of all mathematics benchmarks."""
    return _math.demos(n)
