"""Sets of real numbers as unions of pieces, from brackets, inequalities, {x | ...}, words, and what
is left of the line without some points.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from ccpo.grade.numbers import literal
from ccpo.grade.typeset import split, untexted

Equal = Callable[[str, str], bool]
_LOW = "-\\infty"
_HIGH = "\\infty"


@dataclass(frozen=True)
class Piece:
    """One interval: its ends, and whether they belong to it. Equal closed ends: a point."""

    low: str
    closed_low: bool
    high: str
    closed_high: bool


LINE = Piece(_LOW, False, _HIGH, False)
_UNION = re.compile(r"\\cup(?![A-Za-z])|\bU\b|\\(?:lor|vee)(?![A-Za-z])|\bor\b|或")
_REALS = r"(?:\\mathbb\s*\{?\s*R\s*\}?|\bR\b|(?:the set of )?(?:all )?real numbers|all reals?)"
_WITHOUT = re.compile(
    rf"{_REALS}\s*(?:\\setminus|\\backslash|-|except(?: for)?|excluding|other than)\s*"
    r"(?:[A-Za-z]\s*=\s*)?(.*)"
)
_SIGN = re.compile(r"\s*(\\le(?![a-z])|\\ge(?![a-z])|\\ne(?![a-z])|<|>)\s*")
_TURNED = {"\\le": "\\ge", "\\ge": "\\le", "<": ">", ">": "<", "\\ne": "\\ne"}
_VARIABLE = r"(?:[A-Za-z](?:_\{?\w+\}?)?|[A-Za-z]\([a-z]\)|\\(?:theta|alpha|beta|lambda|phi))"


def pieces(text: str) -> list[Piece] | None:
    """The pieces of a set of real numbers, as they are written; None: it is none."""
    text = untexted(text).strip()
    builder = re.fullmatch(r"\\\{\s*([A-Za-z])\s*(?:\||:)\s*(.*)\\\}", text)
    if builder:
        if not re.search(rf"(?<![A-Za-z\\]){builder[1]}(?![A-Za-z])", builder[2]):
            return None
        text = re.sub(rf"{builder[1]}\s*\\in\s*\\mathbb\s*\{{?R\}}?\s*,?", "", builder[2]).strip()
    text = re.sub(rf"^{_VARIABLE}\s*\\in\s*(?=[\[\](\\a-zR])", "", text).strip()
    if re.fullmatch(_REALS, text):
        return [LINE]
    if without := _WITHOUT.fullmatch(text):
        points = re.sub(r"^\\\{(.*)\\\}$", r"\1", without[1].strip())
        return _line_without([p for p in re.split(r",|\band\b", points) if p.strip()])
    if re.search(r"\\ne(?![a-z])", text):
        return _unequal(text)
    parts = [part.strip() for part in _UNION.split(text)]
    if re.match(r"^(?:[\[\](]|\\\{)", text):
        read = [_points(p) or [_bracketed(p)] for p in parts]
    else:
        read = [[_inequalities(p)] for part in parts for p in _listed(part)]
    flat = list(itertools.chain.from_iterable(read))
    return [p for p in flat if p] if flat and all(flat) else None


def _listed(part: str) -> list[str]:
    """Inequalities with commas between them: each begins with its variable."""
    return re.split(r",(?=\s*[A-Za-z])", part)


def _points(text: str) -> list[Piece | None] | None:
    inner = re.fullmatch(r"\\\{(.*)\\\}", text)
    if not inner:
        return None
    return [Piece(p, True, p, True) for p in split(inner[1], ",") if p] or None


def _line_without(points: list[str]) -> list[Piece] | None:
    """The line without some points, given in any order."""
    values = [literal(p) for p in points]
    if len(points) > 1:
        if not all(values):
            return None
        points = [p for _, p in sorted(zip((v[0] for v in values if v), points, strict=True))]
    ends = [_LOW, *(p.strip() for p in points), _HIGH]
    return [Piece(low, False, high, False) for low, high in itertools.pairwise(ends)]


def _unequal(text: str) -> list[Piece] | None:
    """x \\ne 4, x \\ne 1 and x \\ne 2, x \\ne 1, 2."""
    points: list[str] = []
    for part in re.split(r"\band\b|,|且", text):
        sides = re.split(r"\\ne(?![a-z])", part)
        if len(sides) == 2 and re.fullmatch(rf"\s*{_VARIABLE}\s*", sides[0]):
            points.append(sides[1].strip())
        elif len(sides) == 1 and points and literal(part):
            points.append(part.strip())
        elif not re.fullmatch(r"\s*[A-Za-z]?\s*(?:\\in)?\s*\\mathbb\s*\{?R\}?\s*", part):
            return None
    return _line_without(points)


def _bracketed(text: str) -> Piece | None:
    """[a, b), and ]a, b[ as the French write it."""
    if len(text) < 5 or text[0] not in "[(]" or text[-1] not in "])[":
        return None
    ends = split(text[1:-1], ",")
    if len(ends) != 2:
        return None
    return Piece(_end(ends[0]), text[0] == "[", _end(ends[1]), text[-1] == "]")


def _inequalities(text: str) -> Piece | None:
    """One inequality, or the meeting of two with "and" between them."""
    parts = re.split(r"\band\b|\\(?:land|wedge)(?![A-Za-z])|且", text)
    if len(parts) != 2:
        return _inequality(text) if len(parts) == 1 else None
    first, second = (_inequality(part) for part in parts)
    if first is None or second is None:
        return None
    if first.low == _LOW and second.high == _HIGH:
        first, second = second, first
    if first.high != _HIGH or second.low != _LOW:
        return None
    return replace(first, high=second.high, closed_high=second.closed_high)


def _inequality(text: str) -> Piece | None:
    parts = _SIGN.split(text.strip())
    if len(parts) == 3:
        left, sign, right = parts
        if re.fullmatch(_VARIABLE, right) and not re.fullmatch(_VARIABLE, left):
            left, right, sign = right, left, _TURNED[sign]
        if not re.fullmatch(_VARIABLE, left):
            return None
        closed = sign.startswith("\\")
        if sign in ("\\le", "<"):
            return Piece(_LOW, False, _end(right), closed)
        return Piece(_end(right), closed, _HIGH, False)
    if len(parts) == 5 and re.fullmatch(_VARIABLE, parts[2]):
        low, first, _, second, high = parts
        if {first, second} <= {">", "\\ge"}:
            low, first, second, high = high, _TURNED[second], _TURNED[first], low
        elif not {first, second} <= {"<", "\\le"}:
            return None
        return Piece(_end(low), first == "\\le", _end(high), second == "\\le")
    return None


def _end(text: str) -> str:
    return re.sub(r"^\+\s*\\infty$", r"\\infty", text.strip()).strip()


def joined(parts: list[Piece], equal: Equal) -> list[Piece]:
    """The same set with as few pieces as possible: what meets at an end is one piece."""
    out = sorted(parts, key=_place)
    index = 0
    while index + 1 < len(out):
        left, right = out[index], out[index + 1]
        if (left.closed_high or right.closed_low) and equal(left.high, right.low):
            point = left.low == left.high
            out[index] = Piece(
                left.low,
                left.closed_low or (point and right.closed_low),
                right.high,
                right.closed_high or (right.low == right.high and left.closed_high),
            )
            del out[index + 1]
        else:
            index += 1
    return out


def _place(piece: Piece) -> tuple[Fraction, Fraction]:
    """Where a piece begins and ends, as far as its ends are plain numbers."""
    ends = []
    for text, infinite in ((piece.low, Fraction(-(10**30))), (piece.high, Fraction(10**30))):
        read = literal(text)
        ends.append(read[0] if read else infinite)
    return ends[0], ends[1]
