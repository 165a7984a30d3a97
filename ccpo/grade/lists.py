"""Lists and sets as people write them: their members, and whether two have the same ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from ccpo.grade.numbers import literal
from ccpo.grade.typeset import split, untexted
from ccpo.grade.values import INDEX

T = TypeVar("T")


def items(text: str, thousands: bool = True) -> list[str] | None:
    """Members of a set or a bare list, with \\pm written out; None where it is neither. thousands:
    "1,000" is one member, not two.
    """
    if re.fullmatch(
        r"\\emptyset|\\\{\s*\\?\}|(?:no (?:real )?solutions?|none)", untexted(text).strip()
    ):
        return []
    inner = re.fullmatch(r"(?:[A-Za-z](?:_\w)?\s*(?:=|\\in)\s*)?\\\{(.*)\\\}", text)
    body = (inner[1] if inner else text).strip()
    if inner and "|" in body:
        return None
    parts = parts_of(body, thousands)
    same_left = _same_left(parts)
    out = []
    for part in parts:
        value = re.sub(rf"^[A-Za-z]{INDEX}\s*=\s*(?=\S)", "", part) if same_left else part
        signs = re.split(r"\\pm(?![A-Za-z])", value)
        if len(signs) == 2:
            first = f"{signs[0]}+{signs[1]}" if signs[0].strip() else signs[1]
            out += [first, f"{signs[0]}-{signs[1]}"]
        else:
            out.append(value)
    return [p.strip() for p in out] if inner or len(out) > 1 else None


def parts_of(body: str, thousands: bool = True) -> list[str]:
    """The parts of a list, at commas, semicolons and the words between them."""
    if outer := re.fullmatch(r"\\text\s*\{([^{}]*,[^{}]*)\}", body):
        body = outer[1]
    body = re.sub(
        r"\\text\s*\{\s*,?\s*(?:and|or)\s*,?\s*\}|\b(?:and|or)\b|\\(?:lor|vee)(?![A-Za-z])|和|或",
        ";",
        body,
    )
    return [
        part
        for run in split(body, ";")
        for part in ([run] if thousands and literal(run) else split(run, ","))
        if part
    ]


def _same_left(parts: list[str]) -> bool:
    """Whether all equations of a list have the same left side, as in "x=1, x=2" (with or without
    repeating it) but not "x=5, y=3".
    """
    left = {m[1] for p in parts if (m := re.match(rf"([A-Za-z]){INDEX}\s*=", p))}
    return len(left) == 1


def matched(
    answer: Sequence[T], truth: Sequence[T], equal: Callable[[T, T], bool], often: bool = False
) -> bool:
    """Whether two lists have the same members, in any order. often: how often counts."""
    left = list(answer) if often else _distinct(answer, equal)
    want = list(truth) if often else _distinct(truth, equal)
    if len(left) != len(want):
        return False
    for one in want:
        hit = next((i for i, other in enumerate(left) if equal(other, one)), None)
        if hit is None:
            return False
        left.pop(hit)
    return True


def _distinct(members: Sequence[T], equal: Callable[[T, T], bool]) -> list[T]:
    """Members that are spelt differently; more is decided by matching."""
    return list(dict.fromkeys(members))
