"""One verifier for all benchmarks: what a message answers, and whether that is the truth.

What a message answers is message.py's business. Kinds of truth are those of answers.py, and `code`:
a program, run in the sandbox against its tests.
"""

from __future__ import annotations

import functools
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ccpo.grade import answers, message, numbers, process, values
from ccpo.grade.message import extract as extract
from ccpo.grade.sandbox import plain, programs

SECONDS = 2.0  # of processor time, of one comparison
WAITING = 256  # verdicts of `verify_many` that are under way or not yet taken

T = TypeVar("T")
Equal = Callable[[str, str, str, float], bool]


@dataclass(frozen=True)
class Verdict:
    """The answer found (None: there is none), whether it is right, and for programs the share of
    tests passed. late: no verdict was reached, for the reason; the answer then counts as wrong and
    is to be counted as late.
    """

    answer: str | None
    correct: bool
    fraction: float | None = None
    reason: str = ""
    late: bool = False


@functools.lru_cache(maxsize=1 << 17)
def equal(answer: str, truth: str, kind: str, tolerance: float = 0.0) -> bool:
    """Whether an answer is the truth: at once where a rule decides, else by algebra in a process of
    its own, at most SECONDS of its processor time.

    Raises:
        ValueError: an unknown kind. process.Late: no verdict was reached; it is not kept.
    """
    try:
        return answers.same(answer, truth, kind, tolerance, leaf=answers.undecided)
    except answers.Undecided:
        request = process.Request("equal", answer, truth, kind, tolerance)
        return bool(process.ask(request, SECONDS))


def value(text: str) -> float | None:
    """The real value of a formula without variables, or None; at most SECONDS of processor time.

    Raises:
        process.Late: no value was reached.
    """
    if values.prose(text) or values.monstrous(text) or not re.search(r"[A-Za-z\\^(]", text):
        return None
    return process.ask(process.Request("value", text), SECONDS)


def verify(
    text: str, truth: str, kind: str, tolerance: float = 0.0, same: Equal = equal
) -> Verdict:
    """The verdict on a message.

    Raises:
        ValueError: an unknown kind, or tests of a program that cannot be read.
    """
    code = kind == "code"
    answer = extract(text, kind, programs.called(truth) if code else ())
    if answer is None:
        return Verdict(None, False, *((0.0, "no program") if code else ()))
    try:
        if code:
            graded = programs.grade(answer, truth)
            return Verdict(answer, graded.passed, graded.fraction, graded.reason)
        return Verdict(answer, same(answer, truth, kind, tolerance))
    except process.Late as late:
        return Verdict(answer, False, 0.0 if code else None, str(late), late=True)


@dataclass(frozen=True)
class Ballots:
    """The class of each vote (0 right, -1 no answer, from 1 on the wrong answers that are one), and
    how many comparisons between them were not reached.
    """

    codes: list[int]
    late: int = 0


def ballots(
    verdicts: Sequence[Verdict], kind: str, tolerance: float = 0.0, same: Equal = equal
) -> Ballots:
    """The votes on one task, by value: wrong answers that are the same are one class (made
    transitive: what equals a member belongs to the class). Classes are numbered as they first
    occur. Where a comparison is not reached (process.Late), spelling decides for that pair, and it
    is counted as late.
    """
    late = 0

    def alike(answer: str, other: str) -> bool:
        nonlocal late
        try:
            return same(answer, other, kind, tolerance) or same(other, answer, kind, tolerance)
        except process.Late:
            late += 1
            return answer == other

    wrong = dict.fromkeys(v.answer for v in verdicts if v.answer is not None and not v.correct)
    numbers_of = _classes(list(wrong), alike)
    codes = [0 if v.correct else -1 if v.answer is None else numbers_of[v.answer] for v in verdicts]
    return Ballots(codes, late)


def _classes(spelt: Sequence[str], alike: Callable[[str, str], bool]) -> dict[str, int]:
    """The number of each answer's class, from 1 on in the order of their first members."""
    classes: list[list[str]] = []
    for answer in spelt:
        hits = [members for members in classes if any(alike(answer, m) for m in members)]
        if hits:
            hits[0] += [*(m for members in hits[1:] for m in members), answer]
            classes = [members for members in classes if members not in hits[1:]]
        else:
            classes.append([answer])
    return {answer: i for i, members in enumerate(classes, start=1) for answer in members}


def spelling(answer: str, other: str, kind: str, tolerance: float) -> bool:
    """Whether two answers are spelt the same: for `ballots` that no vote counts."""
    return answer == other


Item = tuple[str, str, str, float]  # message, truth, kind, tolerance


def verify_many(items: Iterable[Item], workers: int | None = None) -> Iterator[Verdict]:
    """What `verify` says of many messages, in order, as it comes.

    Memory is bounded, whatever their number; `workers` comparisons by algebra and programs are
    under way at a time (None: one for each core that this process may use, at most 8).

    Raises:
        As `verify`.
    """
    return in_order(verify, items, workers)


def in_order(
    function: Callable[..., T], items: Iterable[tuple[object, ...]], workers: int | None = None
) -> Iterator[T]:
    """The function of many tuples of arguments, in order, as it comes; `workers` threads."""
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers or _cores()) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, *item))
                if len(waiting) > WAITING:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # an error, or nobody asks for the rest
                future.cancel()


def _cores() -> int:
    usable = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    return min(8, len(usable))


def explain(text: str, truth: str, kind: str, tolerance: float = 0.0) -> list[str]:
    """How the verdict on a message comes about, step by step, in lines that can be printed."""
    return [plain.printable(line) for line in _explained(text, truth, kind, tolerance)]


def _explained(text: str, truth: str, kind: str, tolerance: float) -> list[str]:
    where = message.place(text, kind)
    code = kind == "code"
    answer = extract(text, kind, programs.called(truth) if code else ())
    lines = [
        f"answer: {answer!r}, from {where}"
        if answer is not None
        else f"answer: none ({where} holds none)"
    ]
    if answer is None:
        return [*lines, "verdict: wrong"]
    if kind == "code":
        verdict = verify(text, truth, kind)
        lines.append(f"sandbox: {programs.describe()}")
        return [
            *lines,
            f"tests passed: {verdict.fraction:.0%} {verdict.reason}".rstrip(),
            _outcome(verdict.correct, verdict.late),
        ]
    a = answers.tidy(answer)
    t = answers.tidy(truth)
    lines += [
        f"read as: {a!r}{_read(a)}",
        f"truth:   {t!r}{_read(t)} "
        f"({kind}{f', relative error up to {tolerance:g}' if tolerance else ''})",
    ]
    late = False
    try:
        decided = answers.same(answer, truth, kind, tolerance, leaf=answers.undecided)
        how = "by rule"
    except answers.Undecided:
        verdict = verify(text, truth, kind, tolerance)
        decided = verdict.correct
        late = verdict.late
        how = verdict.reason or "by algebra (math-verify)"
    return [*lines, f"compared: {how}", _outcome(decided, late)]


def _outcome(correct: bool, late: bool) -> str:
    if late:
        return "verdict: not reached, which counts as wrong and is counted as late"
    return f"verdict: {'correct' if correct else 'wrong'}"


def _read(text: str) -> str:
    read = numbers.number(text)
    return (
        f" = {read.value}{' %' if read.percent else ''}{f' [{read.unit}]' if read.unit else ''}"
        if read
        else ""
    )
