"""How the papers' own graders would have judged a message: the audit columns beside our verdict.
Never used for a reward.

Written from descriptions of their official code: C3 (arXiv 2603.06859, reward backend "marft"),
CCPO v2 and later (arXiv 2603.21563, the PRIME grader bundled with verl). Their symbolic steps are
ours here, given the same limits; what each gets wrong is what the tests hold it to.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from ccpo.grade import numbers, typeset, verifier
from ccpo.grade.boxes import boxes

GRADERS = ("c3", "ccpo")
_ANCHOR = re.compile(r"(?:answer|答案)\s*[:：]\s*([^\n]+)", re.IGNORECASE)
_NOISE = re.compile(r"Error|Exception|Traceback")
_CUTS = re.compile(r"(?:answer is|answer:)", re.IGNORECASE)
_MARKS = ("=", "is ", "be ", "are ", ": ", "≈", "\\approx")
_PROSE = re.compile(r"answer|solution|because|therefore", re.IGNORECASE)


def verdict(grader: str, text: str, truth: str, kind: str) -> bool | None:
    """What a grader says of a message; None for kinds it was not used on.

    Raises:
        ValueError: an unknown grader.
    """
    if grader not in GRADERS:
        raise ValueError(f"published: unknown grader '{grader}'. Known: {', '.join(GRADERS)}.")
    if kind in ("code", "choice", "text"):
        return None
    return {"c3": c3, "ccpo": ccpo}[grader](text, truth, kind)


def c3(text: str, truth: str, kind: str) -> bool:
    """C3: lines with the words Error, Exception, Traceback are dropped; a line "#### x" wins over a
    box; floats within 4 %, whole truths against the rounded answer, values of formulas within 4 %
    of a positive truth; then algebra, where lists keep their order.
    """
    kept = [line for line in text.splitlines() if not _NOISE.search(line)]
    hashed = [line for line in kept if line.strip().startswith("####")]
    text = "\n".join(kept)
    held = [content for box in boxes(text) if (content := box.content(text))]
    anchored = _ANCHOR.findall(text)
    last = next((line for line in reversed(kept) if line.strip()), "")
    answer = typeset.tidy(
        hashed[-1].strip().lstrip("#")
        if hashed
        else held[-1]
        if held
        else anchored[-1]
        if anchored
        else last
    )
    return bool(answer) and _listed(answer, typeset.tidy(truth), kind, _c3_one)


def _c3_one(answer: str, truth: str, kind: str) -> bool:
    answer = re.sub(r"^[A-Za-z]\s*=\s*(?=[^=]*$)", "", answer)
    if typeset.squeeze(answer) == typeset.squeeze(truth):
        return True
    own = _value(answer.removesuffix("%"))
    theirs = _value(truth.removesuffix("%"))
    if answer.endswith("%") == truth.endswith("%") or truth.isdigit():
        if (
            own is not None
            and theirs is not None
            and theirs != 0
            and abs(own - theirs) <= 0.04 * abs(theirs)
            and _decimal(truth)
        ):
            return True
        if own is not None and theirs is not None and theirs == round(theirs) and _decimal(truth):
            return round(own) == theirs
        if own is not None and theirs is not None and abs(own - theirs) <= 0.04 * theirs:
            return True
    return "%" not in answer + truth and verifier.equal(
        answer, truth, "expression" if kind == "set" else kind
    )


def ccpo(text: str, truth: str, kind: str) -> bool:
    """PRIME: after the last "answer is", the last box if there is one, of it what follows the last
    "=", "is", "be", ":"; the truth keeps its "=", so that an equation is never right; numbers
    closely; algebra for at most two letters and 160 characters.
    """
    part = _CUTS.split(text)[-1]
    held = [content for box in boxes(part) if (content := box.content(part))]
    answer = held[-1] if held else part
    answer = answer.split(". ")[0]
    for mark in _MARKS:
        answer = answer.rsplit(mark, 1)[-1]
    return _listed(typeset.tidy(answer), typeset.tidy(truth), kind, _ccpo_one)


def _ccpo_one(answer: str, truth: str, kind: str) -> bool:
    if typeset.squeeze(answer) == typeset.squeeze(truth):
        return True
    own = _value(answer) if _decimal(answer) else None
    theirs = _value(truth) if _decimal(truth) else None
    if own is not None and theirs is not None:
        return abs(own - theirs) <= 1e-6 * max(1.0, abs(theirs))
    letters = set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", answer + truth)))
    if (
        "=" in truth
        or _PROSE.search(answer)
        or len(letters) > 2
        or max(len(answer), len(truth)) > 160
        or re.search(r"\d[eE][-+]?\d", truth)
    ):
        return False
    both = numbers.number(answer), numbers.number(truth)
    if (
        both[0]
        and both[1]
        and "/" in answer.replace("\\frac", "/")
        and "/" in truth.replace("\\frac", "/")
    ):
        return False  # fractions written differently
    return verifier.equal(answer, truth, "expression" if kind in ("set", "equation") else kind)


def _listed(answer: str, truth: str, kind: str, one: Callable[[str, str, str], bool]) -> bool:
    """Lists item by item, in their order."""
    own = typeset.split(answer, ",")
    theirs = typeset.split(truth, ",")
    if len(theirs) > 1 and len(own) == len(theirs) and not numbers.literal(truth):
        return all(one(a, t, "expression") for a, t in zip(own, theirs, strict=True))
    return one(answer, truth, kind)


def _decimal(text: str) -> bool:
    return bool(re.fullmatch(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)", text.strip()))


@functools.lru_cache(maxsize=1 << 14)
def _value(text: str) -> float | None:
    """The value of a number or of a formula without letters."""
    literal = numbers.literal(text)
    if literal:
        return float(literal[0])
    return verifier.value(text)
