"""Tuples, vectors, matrices and lists whose order counts."""

from __future__ import annotations

import re
from collections.abc import Callable

from ccpo.grade.lists import matched, parts_of
from ccpo.grade.typeset import split
from ccpo.grade.values import INDEX

Equal = Callable[[str, str], bool]
_MATRIX = re.compile(
    r"(.*?)\\begin\s*\{((?:small|p|b|B)?matrix|array)\}(?:\s*\{[lcr|\s]*\})?(.*)\\end\s*\{\2\}(.*)",
    re.DOTALL,
)
_NAME = re.compile(r"(?:[A-Za-z(),\s]|\\text\{[^{}]*\}|\\vec\{\w\}|\^\{-1\})*=\s*(?=[-(\[\\\d])")
_VECTORS = {"()", "<>", "column"}
Rows = tuple[str, list[list[str]]]  # which brackets, and what stands between them


def same_tuples(answer: str, truth: str, equal: Equal) -> bool:
    """Ordered, bracket by bracket; vectors and matrices row by row. Several tuples in a row are
    compared in any order; a list without brackets is one whose order counts.
    """
    a = rows_of(answer)
    t = rows_of(truth)
    if a and t:
        return _same_rows(a, t, equal)
    several = [parts_of(re.sub(r"^\\\{(.*)\\\}$", r"\1", x)) for x in (answer, truth)]
    if len(several[1]) > 1 and all(rows_of(p) for p in several[1]):
        return all(rows_of(p) for p in several[0]) and matched(
            several[0], several[1], lambda x, y: same_tuples(x, y, equal)
        )
    if t:
        listed = _in_order(answer, len(t[1][0]))
        return (
            t[0] in _VECTORS
            and len(t[1]) == 1
            and listed is not None
            and all(map(equal, listed, t[1][0]))
        )
    return _lists(answer, truth, a, equal)


def _lists(answer: str, truth: str, bracketed: Rows | None, equal: Equal) -> bool:
    """A truth that is a list without brackets."""
    for thousands in (False, True):
        want = parts_of(truth, thousands)
        if len(want) < 2:
            continue
        have = bracketed[1][0] if bracketed and bracketed[0] == "()" else None
        have = have or _ranked(answer, len(want)) or _in_order(answer, len(want), thousands)
        if have and len(have) == len(want) and all(map(equal, have, want)):
            return True
    return len(parts_of(truth, False)) < 2 and equal(answer, truth)


def _in_their_order(name: str) -> bool:
    """Whether a name like "(x, y) =" has its letters in the order in which they are given."""
    listed = re.fullmatch(r"\s*\(((?:\s*[A-Za-z]\s*,)+\s*[A-Za-z])\s*\)\s*=\s*", name)
    letters = re.findall("[a-z]", listed[1].lower()) if listed else []
    return letters == sorted(letters)


def _ranked(text: str, n: int) -> list[str] | None:
    """a > b > c as the list of its sides."""
    sides = re.split(r"[<>]", text)
    return (
        [s.strip() for s in sides]
        if len(sides) == n and len(set(re.findall("[<>]", text))) == 1
        else None
    )


def _in_order(text: str, n: int, thousands: bool = False) -> list[str] | None:
    """A list of n parts without brackets; names like x = 1, y = 2 are put in their order."""
    parts = parts_of(text, thousands)
    if len(parts) != n or text.startswith("\\{"):
        return None
    return by_name(text, thousands) or parts


def by_name(text: str, thousands: bool = False) -> list[str] | None:
    """The values of a list like "y = 3, x = 2", in the order of their names; None: it is none."""
    parts = parts_of(text, thousands)
    named = [re.fullmatch(rf"([A-Za-z]{INDEX})\s*=\s*([^=]+)", part) for part in parts]
    if len(parts) < 2 or not all(named) or len({m[1] for m in named if m}) < len(parts):
        return None
    return [m[2].strip() for m in sorted((m for m in named if m), key=lambda m: m[1])]


def _same_rows(a: Rows, t: Rows, equal: Equal) -> bool:
    if a[0] != t[0] and not {a[0], t[0]} <= _VECTORS:
        return False
    x = [c for row in a[1] for c in row] if a[0] in _VECTORS else a[1]
    y = [c for row in t[1] for c in row] if t[0] in _VECTORS else t[1]
    if a[0] in _VECTORS:
        return len(x) == len(y) and all(_entry(p, q, equal) for p, q in zip(x, y, strict=True))
    return len(a[1]) == len(t[1]) and all(
        len(p) == len(q) and all(map(equal, p, q)) for p, q in zip(a[1], t[1], strict=True)
    )


def _entry(x: object, y: object, equal: Equal) -> bool:
    return equal(str(x), str(y))


def rows_of(text: str) -> Rows | None:
    """The rows of a tuple, vector or matrix, and which it is: (1,2) is not [1,2], and a column is
    no row. Determinants and norms are none.
    """
    name = _NAME.match(text.strip())
    if name and not _in_their_order(name[0]):
        return None
    text = text.strip()[name.end() if name else 0 :]
    if matrix := _MATRIX.fullmatch(text):
        return _matrix(matrix)
    if angle := re.fullmatch(r"\\langle(.*)\\rangle", text):
        return "<>", [split(angle[1])]
    if nested := re.fullmatch(r"\[\s*(\[.*\])\s*\]", text):
        rows = [re.fullmatch(r"\[(.*)\]", row) for row in split(nested[1])]
        return _shaped([split(row[1]) for row in rows if row]) if all(rows) else None
    if len(text) > 2 and text[0] in "([" and text[-1] in ")]" and len(split(text)) == 1:
        inner = split(text[1:-1])
        return (text[0] + text[-1], [inner]) if len(inner) > 1 else None
    return None


def _matrix(matrix: re.Match[str]) -> Rows | None:
    before, kind, body, after = matrix[1].strip(), matrix[2], matrix[3], matrix[4].strip()
    if kind in ("matrix", "array", "smallmatrix"):
        if not (before[-1:] in ("(", "[") and after[:1] in (")", "]")):
            return None
        before, after = before[:-1].strip(), after[1:].strip()
    if after or re.search(r"\\det|\|", before):
        return None
    body = re.sub(r"\\cr(?![A-Za-z])|\\newline", r"\\\\", body)
    body = re.sub(r"\\hline|\\\\\s*\[[^\]]*\]", lambda m: "" if "h" in m[0][:3] else "\\\\", body)
    rows = [[c.strip() for c in row.split("&")] for row in re.split(r"\\\\", body) if row.strip()]
    if before:
        scale = {"-": "-1", "+": "1"}.get(before, re.sub(r"\\cdot|\\times|\*", "", before).strip())
        rows = [[f"({scale})({c})" for c in row] for row in rows]
    return _shaped(rows)


def _shaped(rows: list[list[str]]) -> Rows:
    """A matrix, or a column."""
    column = len(rows) > 1 and all(len(row) == 1 for row in rows)
    return ("column" if column else "matrix"), rows
