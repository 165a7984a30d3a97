"""One verifier for all benchmarks: what a message answers, and whether that is the truth.

The answer is the content of the last box, else what follows the last "answer is". Plain whole numbers are compared as such; everything
else is parsed and compared by math-verify, limited in time. No tolerance anywhere.
"""

from __future__ import annotations

import functools
import re
import threading
from dataclasses import dataclass
from typing import Any

_INTEGER = re.compile(r"[+-]?\d+|[+-]?\d{1,3}(,\d{3})+")
_SAID = re.compile(r"answer is:?\s*([^\n]+)", re.IGNORECASE)
LONGEST = 300  # characters of an answer; longer ones are no answer
SECONDS = 2  # of one parse or comparison


@dataclass(frozen=True)
class Verdict:
    """The answer found (None: there is none), and whether it is right."""

    answer: str | None
    correct: bool


def extract(text: str) -> str | None:
    """The answer a message gives, or None."""
    start = text.rfind("\\boxed{")
    if start >= 0:
        depth, begin = 1, start + len("\\boxed{")
        for end in range(begin, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                answer = text[begin:end].strip()
                return answer if 0 < len(answer) <= LONGEST else None
        return None  # a box that never closes holds no answer
    said = _SAID.findall(text)
    answer = said[-1].strip().rstrip(".").strip("$ ") if said else ""
    return answer if 0 < len(answer) <= LONGEST else None


@functools.lru_cache(maxsize=1 << 17)
def equal(answer: str, truth: str, kind: str) -> bool:
    """Whether two answers of this kind are the same.

    Raises:
        ValueError: an unknown kind.
    """
    if kind != "number":
        raise ValueError(f"verifier: unknown kind of answer '{kind}'. Known: number.")
    if _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(truth):
        return int(answer.replace(",", "")) == int(truth.replace(",", ""))
    parse, verify, limit = _math_verify()
    box = "\\boxed{%s}"
    return bool(
        verify(
            parse(box % truth, parsing_timeout=limit),
            parse(box % answer, parsing_timeout=limit),
            timeout_seconds=limit,
            float_rounding=12,
        )
    )


def verify(text: str, truth: str, kind: str) -> Verdict:
    """The verdict on a message."""
    answer = extract(text)
    return Verdict(answer, answer is not None and equal(answer, truth, kind))


def _math_verify() -> tuple[Any, Any, int | None]:
    import logging

    from math_verify import parse
    from math_verify import verify as math_verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # a time-out is a verdict here, not news
    # its time limit is an alarm signal, which exists in the main thread only
    return parse, math_verify, SECONDS if threading.current_thread() is threading.main_thread() else None
