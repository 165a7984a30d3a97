"""One verifier for all benchmarks: what a message answers, and whether that is the truth.

The answer is the content of the last box; else what follows the last "####", "answer is" or
"answer:"; else the whole message, if it is nothing but an answer. Kinds of truth are those of
answers.py, and `code`: a program, run in the sandbox against its tests.
"""

from __future__ import annotations

import functools
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ccpo.grade import answers, process
from ccpo.grade.sandbox import plain, programs

LONGEST = 300  # characters of an answer; longer ones are no answer
SECONDS = 2.0  # of processor time, of one comparison
WAITING = 256  # verdicts of `verify_many` that are under way or not yet taken

T = TypeVar("T")
Equal = Callable[[str, str, str, float], bool]
_BOX = re.compile(r"\\(?:f?boxed|fbox)\s*(?:(\{)|([^\s{}$\\]+))")
_SAID = re.compile(
    r"(?:\*\*)?(?:####|(?:answers?|option|choice)(?:\*\*)?\s*(?:(?:is|are)(?:\*\*)?\s*:?|[:：=](?:\*\*)?)|答案(?:是|为|：|:)+|故?选(?=\s*[A-Za-z]\b))(?:\*\*)?\s*([^\n]+)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?:(?<!\bsq)(?<!\bcu)(?<!\\)[.!?](?:\s|$)|[。！？]).*", re.DOTALL)


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


def boxes(text: str) -> list[tuple[int, str | None]]:
    """Every outermost box: where it starts and what it holds (None: it never closes)."""
    out = []
    past = 0
    for match in _BOX.finditer(text):
        if match.start() < past:
            continue
        if match[2] is not None:
            out.append((match.start(), match[2].rstrip(".,;")))
            continue
        depth = 1
        past = match.end()
        while past < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[past], 0)
            past += 1
        out.append((match.start(), text[match.end() : past - 1] if depth == 0 else None))
    return out


def extract(text: str, kind: str = "number") -> str | None:
    """The answer a message gives, or None."""
    if kind == "code":
        return programs.program(text)
    found = boxes(text)
    if found:
        answer = found[-1][1]
        if (
            kind == "set" and answer is not None
        ):  # "\boxed{3} and \boxed{5}": those of the last line
            line = text.rfind("\n", 0, found[-1][0])
            answer = ", ".join(a for at, a in found if at > line and a)
        if answer is not None and boxes(answer):
            return extract(answer, kind)
    elif said := _SAID.findall(text):
        answer = said[-1].strip()
        answer = answer if kind == "choice" else _SENTENCE.sub("", answer)
    else:
        answer = text.strip() if bare(text.strip(), kind) else None
    answer = answer.strip().strip("*").strip() if answer else ""
    return answer if 0 < len(answer) <= LONGEST else None


def bare(text: str, kind: str) -> bool:
    """Whether a message is nothing but an answer: one line and no sentence."""
    if not text or "\n" in text or len(text) > LONGEST:
        return False
    if kind == "choice":
        if re.fullmatch(r"[^\w]*[A-Za-z][^\w]*", re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)):
            return True
        # an option as the question gives it, "D. The river is north", and no other one
        return (
            re.match(r"\(?[A-H][.):]\s+\S", text) is not None
            and len(re.findall(r"(?<!\w)\(?[A-H][.):](?=\s|$)", text)) == 1
        )
    if kind == "text":
        return len(text.split()) <= 8
    if kind in ("number", "expression") and "=" in text:
        return False  # a step of work
    return not answers.prose(re.sub(r"\\text\s*\{[^{}]*\}|\b(?:and|or)\b", " ", answers.tidy(text)))


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
    if answers.prose(text) or answers.monstrous(text) or not re.search(r"[A-Za-z\\^(]", text):
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
    answer = programs.program(text, programs.called(truth)) if code else extract(text, kind)
    if answer is None:
        return Verdict(None, False, *((0.0, "no program") if code else ()))
    try:
        if code:
            graded = programs.grade(answer, truth)
            return Verdict(answer, graded.passed, graded.fraction, graded.reason)
        return Verdict(answer, same(answer, truth, kind, tolerance))
    except process.Late as late:
        return Verdict(answer, False, 0.0 if code else None, str(late), late=True)


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
    found = boxes(text)
    said = _SAID.findall(text)
    where = (
        "the blocks of Python"
        if kind == "code"
        else "the last box"
        if found
        else "the words after 'answer'"
        if said
        else "the whole message"
    )
    code = kind == "code"
    answer = programs.program(text, programs.called(truth)) if code else extract(text, kind)
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
    value = answers.number(text)
    return (
        f" = {value.value}{' %' if value.percent else ''}{f' [{value.unit}]' if value.unit else ''}"
        if value
        else ""
    )
