"""Whether a thought gives the answer away: the verifier on every number, every box and every stated
answer in it.

A thought names many numbers, so that some truths are met by chance (small whole numbers above all):
report the rate beside that of the same thoughts against truths of other tasks.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator

from ccpo.grade import answers, process, verifier

MOST = 200  # lines, numbers and boxes of a thought that are looked at, the last ones
_NUMBER = re.compile(
    r"(?<![\w.])-?(?:\\[dt]?frac\s*\{-?\d+\}\s*\{\d+\}|\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?)"
    r"(?:\s*\\?%)?(?!\w)"
)
_KINDS_OF_NUMBERS = ("number", "expression", "equation")

Item = tuple[str, str, str, float]  # thought, truth, kind, tolerance


def leaks(thought: str, truth: str, kind: str, tolerance: float = 0.0) -> bool:
    """Whether a thought holds the truth; of code: whether the program in it, if there is one,
    passes the tests. A comparison that is not reached (process.Late) counts as none.

    Raises:
        ValueError: an unknown kind, or tests that cannot be read.
    """
    if kind == "code":
        return verifier.verify(thought, truth, kind).correct
    return any(
        _same(candidate, truth, kind, tolerance, plain)
        for candidate, plain in candidates(thought, kind)
    )


def leaks_many(items: Iterable[Item], workers: int | None = None) -> Iterator[bool]:
    """What `leaks` says of many thoughts, in order; `workers` as of `verifier.verify_many`."""
    return verifier.in_order(leaks, items, workers)


def candidates(thought: str, kind: str) -> list[tuple[str, bool]]:
    """What may be an answer in a thought, each once, and whether it is a plain number."""
    lines = [line.strip() for line in thought.splitlines()][-MOST:]
    # a line that is an option, or a word, is no statement of the answer
    stated = [verifier.extract(x, kind) for x in lines if not verifier.bare(x, kind)]
    stated += [verifier.extract(thought, kind)]
    stated += [held for _, held in verifier.boxes(thought)[-MOST:]]
    texts = {text.strip(): False for text in stated if text}
    if kind in _KINDS_OF_NUMBERS:
        numbers = [match[0] for match in _NUMBER.finditer(thought)][-MOST:]
        texts = {**dict.fromkeys(numbers, True), **texts}
    return list(texts.items())


def _same(candidate: str, truth: str, kind: str, tolerance: float, plain: bool) -> bool:
    """Whether a candidate is the truth; algebra is asked about a number only if it has the value of
    the truth, as a thought holds many.
    """
    try:
        if plain:
            try:
                return answers.same(candidate, truth, kind, tolerance, leaf=answers.undecided)
            except answers.Undecided:
                value = _value(truth)
                number = answers.number(candidate)
                if value is None or number is None:
                    return False
                if not math.isclose(float(number.value), value, rel_tol=max(1e-6, tolerance)):
                    return False
        return verifier.equal(candidate, truth, kind, tolerance)
    except process.Late:
        return False


@functools.lru_cache(maxsize=1 << 14)
def _value(truth: str) -> float | None:
    return verifier.value(truth)
