"""What several mathematics benchmarks need: the last box of a solution, the kind of a truth,
demonstrations.
"""

from __future__ import annotations

import re

from ccpo.benchmark import Demo, Only

_PLAIN = re.compile(
    r"[-+]?\$?\s*(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d+)?(?:\s*\\?%|\s*\^?\{?\\circ\}?|\s*\\(?:text|mbox|mathrm)\s*\{[^{}]*\}(?:\^\{?\d\}?)?)?"
    r"|[-+]?\d*\s*\\[dt]?frac\s*(?:\{[-\d]+\}|\d)\s*(?:\{[-\d]+\}|\d)(?:\s*\\text\s*\{[^{}]*\})?|[-+]?\d+\.?/\d+|\d+_\{?\d+\}?"
)
_LIST = re.compile(r",|\\pm|\b(?:or|and)\b|\\text\s*\{\s*(?:or|and)\s*\}")
_ASKS_INTERVAL = re.compile(
    r"interval|inequalit|range of|domain|values of|solution set|\\[gl]eq?(?![A-Za-z])|[<>]",
    re.IGNORECASE,
)
# what a question that holds "<" may ask for all the same; "interval notation" decides
_ASKS_PAIR = re.compile(
    r"\bpairs?\b|coordinates|vertex|\bfoc(?:us|i)\b|intercepts?|point"
    r"|(?:find|compute|enter)[^.]{0,20}\([a-zA-Z],\s*[a-zA-Z]\)",
    re.IGNORECASE,
)
FIGURE = "its figure is given as code only"


def boxed(solution: str) -> str:
    """What the last box of a solution holds, "" if there is none: braces, or the one character of
    "\\boxed 9".
    """
    start = solution.rfind("\\boxed")
    if start < 0:
        return ""
    rest = solution[start + len("\\boxed") :].lstrip()
    if not rest.startswith("{"):
        return rest[:1]
    depth = 0
    for end, c in enumerate(rest):
        depth += {"{": 1, "}": -1}.get(c, 0)
        if depth == 0:
            return rest[1:end].strip()
    return ""


def kind_of(truth: str, question: str = "") -> str:
    """Which kind of answer a truth is, by its form; (a, b) is an interval where the question speaks
    of one, else a point.
    """
    text = re.sub(r"\\(?:left|right|,|;|:)|\s*\\!\s*", "", truth).strip().strip("$").strip()
    if re.fullmatch(r"\(?[A-K]\)?|\\text\s*\{\s*\(?[A-K]\)?\s*\}", text):
        return "choice"
    if _PLAIN.fullmatch(text) or _PLAIN.fullmatch(text.replace("\\$", "")):
        return "number"
    words = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)
    if re.fullmatch(
        r"\\text\s*\{[^{}]*\}|[A-Za-z]{3,}(?: [A-Za-z]+)*|\d+:\d+ ?[ap]m|\d+ ?[ap]m", text
    ) and not re.search(r"\d{3}", words):
        return "text"
    if re.match(r"\\\{", text):
        return "interval" if re.search(r"\|.*(?:<|>|\\le|\\ge)", text) else "set"
    if (
        "\\cup" in text
        or "\\infty" in text
        or re.match(r"[A-Za-z]\s*\\in|\[", text)
        or re.fullmatch(r"\(.*\]", text)
    ):
        return "interval"
    if re.match(r"\\begin\s*\{[pbv]matrix\}", text):
        return "tuple"
    if re.fullmatch(r"\([^()]*(?:\([^()]*\)[^()]*)*,.*\)", text):
        return "interval" if text.count(",") == 1 and _asks_interval(question) else "tuple"
    if re.search(r"(?<!\\)(?<![<>])=", text) and not _LIST.search(text):
        return "equation"
    if re.search(r"[<>]|\\le|\\ge", text):
        return (
            "interval"
            if len(re.findall(r"[A-Za-z]", re.sub(r"\\[a-z]+", "", text))) == 1
            else "text"
        )
    return "set" if _LIST.search(re.sub(r"\d,\d{3}|\{[^{}]*\}", "", text)) else "expression"


def _asks_interval(question: str) -> bool:
    if "interval" in question:
        return "ordered pair" not in question
    return bool(_ASKS_INTERVAL.search(question)) and not _ASKS_PAIR.search(question)


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
