"""What several mathematics benchmarks need: the last box of a solution, the kind of a truth,
demonstrations.
"""

from __future__ import annotations

from ccpo.benchmark import Demo, Only
from ccpo.benchmark._keys import key as key
from ccpo.benchmark._keys import kind_of as kind_of
from ccpo.benchmark._keys import with_unit as with_unit
from ccpo.grade.boxes import boxes

FIGURE = "its figure is given as code only"


def boxed(solution: str) -> str:
    """What the last box of a solution holds, "" if there is none: braces, or the one character of
    "\\boxed 9".
    """
    held = boxes(solution)
    content = (held[-1].content(solution) or "").strip() if held else ""
    braced = held and solution[held[-1].inside - 1] == "{"
    return content if braced or not content or content.startswith("\\") else content[:1]


def defect(question: str) -> str:
    """What is known to be wrong with a question of MATH by its text."""
    return FIGURE if "[asy]" in question else ""


_DEMOS = [
    Demo(
        "What is the sum of the first five positive odd integers?",
        "The first n positive odd integers sum to n squared. Here n is 5.",
        "With n=5 the sum is 5^2=25. \\boxed{25}",
        "The odd integers are 1, 3, 5, 7, 9, and their sum is 5^2=25. \\boxed{25}",
    ),
    Demo(
        "If $3x-4=8$, what is $x$?",
        "Add 4 to both sides, then divide both sides by 3.",
        "3x=12, so x=4. \\boxed{4}",
        "3x=8+4=12, so x=12/3=4. \\boxed{4}",
    ),
]


def demos(n: int, *, only: Only = "all") -> list[Demo]:
    """At most two demonstrations, written for this project: none is an item of any set.

    Raises:
        ValueError: more are asked for.
    """
    if n > len(_DEMOS):
        raise ValueError(
            f"mathematics benchmarks: {n} demonstrations asked for, {len(_DEMOS)} exist"
        )
    return _DEMOS[:n]
