"""One verifier for all benchmarks: what a message answers, and whether that is the truth.

What a message answers is message.py's business. Kinds of truth are those of answers.py, and `code`:
a program, run in the sandbox against its tests.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ccpo.grade import answers, message, numbers, process, values
from ccpo.grade.message import extract as extract
from ccpo.grade.sandbox import programs

SECONDS = 2.0  # of one comparison
CODE_SECONDS = (
    60.0  # a program has its own, shorter limit in the sandbox; this one guards the guard
)
CHUNK = 256  # messages sent to a worker at once

Equal = Callable[[str, str, str, float], bool]


@dataclass(frozen=True)
class Verdict:
    """The answer found (None: there is none), whether it is right, and for programs the share of
    tests passed.
    """

    answer: str | None
    correct: bool
    fraction: float | None = None
    reason: str = ""


@functools.lru_cache(maxsize=1 << 17)
def equal(answer: str, truth: str, kind: str, tolerance: float = 0.0) -> bool:
    """Whether an answer is the truth: at once where a rule decides, else by algebra in a process of
    its own, at most SECONDS.

    Raises:
        ValueError: an unknown kind.
    """
    try:
        return answers.same(answer, truth, kind, tolerance, leaf=answers.undecided)
    except answers.Undecided:
        request = {
            "do": "equal",
            "answer": answer,
            "truth": truth,
            "kind": kind,
            "tolerance": tolerance,
        }
        reply = process.mine().ask([request], [SECONDS])[0]
        return reply is not None and bool(reply["correct"])


def value(text: str) -> float | None:
    """The real value of a formula without variables, or None; at most SECONDS."""
    if values.prose(text) or values.monstrous(text) or not re.search(r"[A-Za-z\\^(]", text):
        return None
    reply = process.mine().ask([{"do": "value", "text": text}], [SECONDS])[0]
    return reply["value"] if reply else None


def verify(
    text: str, truth: str, kind: str, tolerance: float = 0.0, same: Equal = equal
) -> Verdict:
    """The verdict on a message.

    Raises:
        ValueError: an unknown kind, or tests of a program that cannot be read.
    """
    answer = extract(text, kind)
    if kind == "code":
        if answer is None:
            return Verdict(None, False, 0.0, "no program")
        graded = programs.grade(answer, truth)
        return Verdict(answer, graded.passed, graded.fraction, graded.reason)
    return Verdict(answer, answer is not None and same(answer, truth, kind, tolerance))


def ballots(
    verdicts: Sequence[Verdict], kind: str, tolerance: float = 0.0, same: Equal = equal
) -> list[int]:
    """The class of each vote on one task, by value: 0 right, -1 no answer, and one number from 1 on
    for all wrong answers that are the same (made transitive: what equals a member belongs to the
    class). Classes are numbered as they first occur.
    """
    spelled = list(
        dict.fromkeys(v.answer for v in verdicts if v.answer is not None and not v.correct)
    )
    root = {answer: answer for answer in spelled}

    def first(answer: str) -> str:
        while root[answer] != answer:
            answer = root[answer]
        return answer

    for i, later in enumerate(spelled):
        for earlier in spelled[:i]:
            a, b = first(earlier), first(later)
            if a != b and (
                same(later, earlier, kind, tolerance) or same(earlier, later, kind, tolerance)
            ):
                root[max(a, b, key=spelled.index)] = min(a, b, key=spelled.index)
    numbers_of = {a: i for i, a in enumerate((a for a in spelled if first(a) == a), start=1)}
    return [
        0 if v.correct else -1 if v.answer is None else numbers_of[first(v.answer)]
        for v in verdicts
    ]


def verify_many(
    items: Iterable[tuple[str, str, str, float]], workers: int | None = None
) -> Iterator[Verdict]:
    """Verdicts on many (text, truth, kind, tolerance), in order, as they come.

    Memory is bounded, whatever their number; `workers` processes do the work (None: one for each
    core).
    """
    workers = workers or os.cpu_count() or 1
    stream = iter(items)
    waiting: deque[Future[list[Verdict]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        while chunk := list(itertools.islice(stream, CHUNK)):
            waiting.append(pool.submit(_chunk, chunk))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _chunk(items: list[tuple[str, str, str, float]]) -> list[Verdict]:
    requests = [
        {"do": "verify", "text": x, "truth": t, "kind": k, "tolerance": r} for x, t, k, r in items
    ]
    replies = process.mine().ask(
        requests, [CODE_SECONDS if k == "code" else SECONDS for _, _, k, _ in items]
    )
    late = f"no verdict within {SECONDS:g} s"
    return [
        Verdict(**r) if r else Verdict(extract(x, k), False, None, late)
        for r, (x, _, k, _) in zip(replies, items, strict=True)
    ]


@functools.lru_cache(maxsize=1 << 17)
def _here(answer: str, truth: str, kind: str, tolerance: float) -> bool:
    """As `equal`, inside the worker: whoever asked keeps the time."""
    return answers.same(answer, truth, kind, tolerance)


def answer_request(request: dict[str, Any]) -> dict[str, Any]:
    """What the worker does with one request. What goes wrong in the algebra is a wrong answer."""
    if request["do"] == "value":
        return {"value": answers.value(request["text"])}
    truth = request["truth"]
    kind = request["kind"]
    tolerance = request["tolerance"]
    try:
        if request["do"] == "equal":
            return {"correct": _here(request["answer"], truth, kind, tolerance)}
        return vars(verify(request["text"], truth, kind, tolerance, _here))
    except (ArithmeticError, AttributeError, MemoryError, RecursionError, TypeError) as error:
        answer = request.get("answer") or extract(request["text"], kind)
        return {
            "answer": answer,
            "correct": False,
            "fraction": None,
            "reason": f"{type(error).__name__} in the algebra",
        }


def explain(text: str, truth: str, kind: str, tolerance: float = 0.0) -> list[str]:
    """How the verdict on a message comes about, step by step."""
    where = message.place(text, kind)
    answer = extract(text, kind)
    lines = [
        f"answer: {answer!r}, from {where}"
        if answer is not None
        else f"answer: none ({where} holds none)"
    ]
    if answer is None:
        return [*lines, "verdict: wrong"]
    if kind == "code":
        graded = programs.grade(answer, truth)
        lines.append(f"sandbox: {programs.describe()}")
        return [
            *lines,
            f"tests passed: {graded.fraction:.0%} {graded.reason}".rstrip(),
            f"verdict: {'correct' if graded.passed else 'wrong'}",
        ]
    a = answers.tidy(answer)
    t = answers.tidy(truth)
    lines += [
        f"read as: {a!r}{_read(a)}",
        f"truth:   {t!r}{_read(t)} "
        f"({kind}{f', relative error up to {tolerance:g}' if tolerance else ''})",
    ]
    try:
        decided = answers.same(answer, truth, kind, tolerance, leaf=answers.undecided)
        how = "by rule"
    except answers.Undecided:
        request = {
            "do": "equal",
            "answer": answer,
            "truth": truth,
            "kind": kind,
            "tolerance": tolerance,
        }
        reply = process.mine().ask([request], [SECONDS])[0]
        decided = reply is not None and bool(reply["correct"])
        how = (
            "by algebra (math-verify)"
            if reply
            else f"no decision within {SECONDS:g} s, which is no match"
        )
    return [*lines, f"compared: {how}", f"verdict: {'correct' if decided else 'wrong'}"]


def _read(text: str) -> str:
    value = numbers.number(text)
    return (
        f" = {value.value}{' %' if value.percent else ''}{f' [{value.unit}]' if value.unit else ''}"
        if value
        else ""
    )
