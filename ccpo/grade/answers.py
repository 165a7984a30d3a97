"""Whether two answers are the same: structure by our own rules, algebra by math-verify, and never a
tolerance that nobody declared.

Kinds of truth: number, expression, set (any order), tuple (order and brackets count), interval,
equation, choice, text. What is compared is the answer alone, already taken out of its message
(verifier.py). A unit that the truth names may be left out; another unit is wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, TypeVar

from ccpo.grade.numbers import Number, close, literal, number, unit

KINDS = ("number", "expression", "set", "tuple", "interval", "equation", "choice", "text")
Leaf = Callable[[str, str], bool]
T = TypeVar("T")

_SIMPLE = [
    (re.compile(pattern), to)
    for pattern, to in [
        (r",\s*\\!\s*", ","),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\(?:left|right|bigl?|bigr|Bigl?|Bigr|displaystyle|limits)(?![A-Za-z])", ""),
        (
            r"\\(?:mathrm|mathbf|operatorname|textbf|mathit|textit|textnormal|mbox|textrm|text)\s*\{",
            r"\\text{",
        ),
        (r"\\(?:leqslant|leq)(?![A-Za-z])", r"\\le "),
        (r"\\(?:geqslant|geq)(?![A-Za-z])", r"\\ge "),
        (r"≤", r"\\le "),
        (r"≥", r"\\ge "),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"[−–]", "-"),
        (r"×", r"\\times "),
        (r"·", r"\\cdot "),
        (r"÷", "/"),
        (r"π", r"\\pi "),
        (r"∞", r"\\infty "),
        (r"∪", r"\\cup "),
        (r"∈", r"\\in "),
        (r"±", r"\\pm "),
        (r"√\s*(\d+|[A-Za-z])", r"\\sqrt{\1}"),
        (r"√\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"°|\^\s*\{?\s*\\circ\s*\}?", r"\\text{degrees}"),
        (r"\\%", "%"),
        (r"\\\$", "$"),
        (r"(?<!\\)\\(?:[!,;: ]|(?:quad|qquad|thinspace)(?![A-Za-z]))|~", " "),
        (r"\{,\}", ","),
        (r"\s+", " "),
    ]
]


def tidy(answer: str) -> str:
    """An answer without the marks of typesetting: dollar signs, \\left, spaces of all kinds, a
    final full stop, Unicode look-alikes.
    """
    text = answer.replace("²", "^2").replace("³", "^3")  # before NFKC makes digits of them
    text = unicodedata.normalize("NFKC", text).replace("。", ".").replace("、", ",").strip()
    for pattern, to in _SIMPLE:
        text = pattern.sub(to, text)
    text = text.strip().strip("*").strip()
    while True:
        before = text
        for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            if (
                text.startswith(left)
                and text.endswith(right)
                and len(text) > len(left) + len(right)
            ):
                inner = text[len(left) : -len(right)]
                text = inner if "$" not in inner or left != "$" else text
        text = re.sub(r"(?<=[^.\s])\s*[.,;:]$", "", text.strip()).strip()
        if text == before:
            break
    if text.count("$") > 1:
        text = text.replace("$", "")
    return re.sub(r"\s+", " ", text).strip()


_PROSE = re.compile(
    r"(?<![\\A-Za-z])(?:the|is|are|and|or|not|but|if|then|answer|so|of|for|with|undefined|none|no|all|any|[A-Za-z]{5,})(?![A-Za-z])",
    re.IGNORECASE,
)
_FUNCTIONS = re.compile(
    r"(?<![A-Za-z])(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|exp|sqrt|frac|lim|max|min|gcd|lcm|infty|alpha|beta|gamma|theta|lambda|omega|sigma|delta"
)


def prose(text: str) -> bool:
    """Whether an answer has words in it, so that no algebra may be read out of it."""
    text = re.sub(r"\\(?:begin|end)\s*\{[a-z]+\}", " ", text)
    bare = re.sub(
        r"\\[A-Za-z]+", " ", re.sub(r"\\text\s*\{\s*(?:red|max|min|eff|tot)\s*\}", "", text)
    )
    return bool(_PROSE.search(_FUNCTIONS.sub(" ", bare))) or "\\text" in text


def squeeze(text: str) -> str:
    """An answer without what never changes its meaning: white space, the braces of single
    characters, \\cdot.
    """
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\s*\\cdot\s*|\\times ", "*", text)
    text = re.sub(r"\{\s*([A-Za-z0-9])\s*\}", r"\1", text)
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text)


def split(text: str, marks: str = ",;") -> list[str]:
    """Parts of a list: split at marks outside all brackets, a thousands comma among them (see
    `items`).
    """
    out = []
    depth = 0
    start = 0
    for i, c in enumerate(text):
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c in marks and depth <= 0:
            out.append(text[start:i])
            start = i + 1
    return [p.strip() for p in [*out, text[start:]]]


def items(text: str, thousands: bool = True) -> list[str] | None:
    """Members of a set or a bare list, with \\pm written out; None where it is neither. thousands:
    "1,000" is one member, not two.
    """
    inner = re.fullmatch(r"(?:[A-Za-z]\s*(?:=|\\in)\s*)?\\\{(.*)\\\}", text)
    body = (inner[1] if inner else text).strip()
    if inner and "|" in body:
        return None
    body = re.sub(
        r"\\text\s*\{\s*,?\s*(?:and|or)\s*\}|\b(?:and|or)\b|\\(?:lor|vee)(?![A-Za-z])|和|或",
        ";",
        body,
    )
    parts = [
        p
        for some in split(body, ";")
        for p in ([some] if thousands and literal(some) else split(some, ","))
        if p
    ]
    same_left = _same_left(parts)
    out = []
    for part in parts:
        bare = re.sub(r"^[A-Za-z](?:_\{?\w+\}?)?\s*=\s*(?=\S)", "", part) if same_left else part
        signs = re.split(r"\\pm(?![A-Za-z])", bare)
        if len(signs) == 2:
            out += [
                f"{signs[0]}+{signs[1]}" if signs[0].strip() else signs[1],
                f"{signs[0]}-{signs[1]}",
            ]
        else:
            out.append(bare)
    return [p.strip() for p in out] if inner or len(out) > 1 else None


def _same_left(parts: list[str]) -> bool:
    """Whether all equations of a list have the same left side, as in "x=1, x=2" (with or without
    repeating it) but not "x=5, y=3".
    """
    left = {m[1] for p in parts if (m := re.match(r"([A-Za-z])(?:_\{?\w+\}?)?\s*=", p))}
    return len(left) == 1


def matched(answer: Sequence[T], truth: Sequence[T], equal: Callable[[T, T], bool]) -> bool:
    """Whether two lists have the same members, in any order."""
    left = list(dict.fromkeys(answer))
    want = list(dict.fromkeys(truth))
    if len(left) != len(want):
        return False
    for one in want:
        hit = next((i for i, other in enumerate(left) if equal(other, one)), None)
        if hit is None:
            return False
        left.pop(hit)
    return True


@dataclass(frozen=True)
class Piece:
    """One interval: its ends, and whether they belong to it."""

    low: str
    closed_low: bool
    high: str
    closed_high: bool


def pieces(text: str) -> list[Piece] | None:
    """A union of intervals, from [a,b) \\cup (c,\\infty), from inequalities in one variable, or
    from {x | ...}; None: none of these.
    """
    text = re.sub(r"<=", r"\\le ", re.sub(r">=", r"\\ge ", text))
    builder = re.fullmatch(r"\\\{\s*([A-Za-z])\s*(?:\||\\mid|:)\s*(.*)\\\}", text)
    text = (
        builder[2].strip()
        if builder
        else re.sub(r"^[A-Za-z](?:\([a-z]\))?\s*\\in\s*(?=[\[({\\])", "", text).strip()
    )
    if re.match(r"^[\[(]", text):
        found = [_bracketed(p) for p in re.split(r"\\cup(?![A-Za-z])|\bU\b", text)]
    else:
        found = [
            _inequality(p)
            for p in re.split(
                r"\\cup(?![A-Za-z])|\bor\b|\\text\s*\{\s*or\s*\}|或|,(?=\s*[A-Za-z])", text
            )
        ]
    return [p for p in found if p] if found and all(found) else None


def _bracketed(text: str) -> Piece | None:
    text = text.strip()
    if len(text) < 5 or text[0] not in "[(" or text[-1] not in "])":
        return None
    ends = split(text[1:-1], ",")
    return (
        Piece(_end(ends[0]), text[0] == "[", _end(ends[1]), text[-1] == "]")
        if len(ends) == 2
        else None
    )


def _inequality(text: str) -> Piece | None:
    parts = re.split(r"\s*(\\le(?![a-z])|\\ge(?![a-z])|<|>)\s*", text.strip())
    if len(parts) == 3:
        a, sign, b = parts
        if re.fullmatch(r"[A-Za-z]", b) and not re.fullmatch(r"[A-Za-z]", a):
            a, b, sign = b, a, {"\\le": "\\ge", "\\ge": "\\le", "<": ">", ">": "<"}[sign]
        if not re.fullmatch(r"[A-Za-z]", a):
            return None
        closed = sign.startswith("\\")
        less = sign in ("\\le", "<")
        return (
            Piece("-\\infty", False, _end(b), closed)
            if less
            else Piece(_end(b), closed, "\\infty", False)
        )
    if len(parts) == 5 and re.fullmatch(r"[A-Za-z]", parts[2]):
        low, first, _, second, high = parts
        if {first, second} <= {">", "\\ge"}:
            low, first, second, high = (
                high,
                second.replace("\\ge", "\\le"),
                first.replace("\\ge", "\\le"),
                low,
            )
        elif not {first, second} <= {"<", "\\le"}:
            return None
        return Piece(_end(low), first == "\\le", _end(high), second == "\\le")
    return None


def _end(text: str) -> str:
    text = text.strip()
    return re.sub(r"^\+\s*\\infty$", r"\\infty", text)


def letter(text: str) -> str | None:
    """The letter of a choice: "B", "(B)", "\\text{(B)}", "B. Paris", "option b"; None: it is not
    one choice.
    """
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", tidy(text)).strip().strip("*")
    found = re.fullmatch(
        r"(?:(?:option|choice|answer|选项?)\s*)?[(\[]?\s*([A-Za-z])\s*(?:[)\]]\s*[.:,]?|[.:,](?!\s*[A-Za-z]\s*(?:[.,:]|$))|$)(?:\s*\S.*)?",
        text,
        re.IGNORECASE,
    )
    return found[1].upper() if found else None


def words(text: str) -> str:
    """A text answer in normal form: no case, articles, quotes, final punctuation, \\text."""
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", tidy(text)).replace("\\", "").lower()
    text = re.sub(r"[\"'`.!?]+$|^[\"'`]+", "", text.strip())
    text = re.sub(r"^(?:an?|the)\s+", "", text)
    return re.sub(r"[\s{}$]+", "", text)


def _parsed(text: str) -> list[Any]:
    """An expression as math-verify reads it. Decimals are made fractions first, so that nothing is
    compared in floating point.
    """
    import logging

    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    for name in ("math_verify", "latex2sympy2_extended"):
        # what it cannot read is a verdict here, not news
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # its way with units would read "t" in "t/m" as tonnes
    how = NormalizationConfig(
        basic_latex=True,
        units=False,
        malformed_operators=True,
        nits=True,
        boxed="none",
        equations=False,
    )
    exact = re.sub(r"(\d*)\.(\d+)", lambda m: f"\\frac{{{m[1]}{m[2]}}}{{1{'0' * len(m[2])}}}", text)
    config = [LatexExtractionConfig(normalization_config=how)]
    return list(parse(f"${exact}$", config, fallback_mode="no_fallback", parsing_timeout=None))


def symbolic(answer: str, truth: str) -> bool:
    """Whether two expressions are algebraically the same, by math-verify. Without a time limit:
    call it where one is kept (judge.py).
    """
    from math_verify import verify

    read = [_parsed(side) for side in (truth, answer)]
    if not all(read):
        return False
    return any(
        bool(verify(a, b, float_rounding=15, numeric_precision=60, timeout_seconds=None))
        for a, b in (read, read[::-1])
    )


def value(text: str) -> float | None:
    """The real value of a formula without variables, or None. No time limit, as `symbolic`."""
    read = _parsed(text)
    try:
        return float(read[0].evalf()) if read else None
    except (TypeError, ValueError, AttributeError):
        return None


def undecided(answer: str, truth: str) -> bool:
    """The leaf of the quick way: whoever asks must take the slow one."""
    raise Undecided


class Undecided(Exception):
    """No quick rule decides."""


def same(answer: str, truth: str, kind: str, tolerance: float = 0.0, leaf: Leaf = symbolic) -> bool:
    """Whether an answer is the truth.

    Args:
        tolerance: see `close`.
        leaf: what compares two expressions that no rule here decides.

    Raises:
        ValueError: an unknown kind.
        Undecided: by the leaf `undecided`.
    """
    if kind not in KINDS:
        raise ValueError(
            f"verifier: unknown kind of answer '{kind}'. Known: {', '.join(KINDS)}, code."
        )
    if kind == "choice":
        return letter(answer) is not None and letter(answer) == letter(truth)
    a = tidy(answer)
    t = tidy(truth)
    if kind == "text":
        return words(a) == words(t)
    if not a or a.count("{") != a.count("}"):
        return False
    if squeeze(a) == squeeze(t):
        return True
    equal: Leaf = partial(_plain, tolerance=tolerance, leaf=leaf)
    rule = {"set": _sets, "tuple": _tuples, "interval": _intervals, "equation": _equations}.get(
        kind
    )
    return rule(a, t, equal) if rule else equal(a, t)


def _plain(answer: str, truth: str, tolerance: float, leaf: Leaf) -> bool:
    """Numbers and expressions. What names its value ("x = 5" for 5) is read as the value; a list is
    none.
    """
    a = answer.strip()
    t = truth.strip()
    if squeeze(a) == squeeze(t):
        return True
    if "=" not in t:
        a = re.sub(r"^[A-Za-z](?:_\{?\w+\}?|\([A-Za-z0-9]+\))?\s*=\s*(?=[^=]*$)", "", a)
    elif "=" not in a:
        t = re.sub(r"^[A-Za-z](?:_\{?\w+\}?)?\s*=\s*(?=[^=]*$)", "", t)
    if ("=" in a and "=" not in t) or ("'" in a and "'" not in t):
        return False
    mine = number(a)
    theirs = number(t)
    if mine and theirs:
        return close(mine, theirs, tolerance)
    if theirs and _unworked(a):
        return False
    if (
        theirs and tolerance and theirs.last is not None
    ):  # a formula for a decimal that may be rounded: what it is worth decides
        if leaf is undecided:
            raise Undecided
        named = re.fullmatch(r".*\\text\s*\{\s*([^{}]*?)\s*\}", a)
        worth = None if monstrous(a) or prose(_bare(a)) else value(_bare(a))
        return worth is not None and close(
            Number(Fraction(worth), False, (named and unit(named[1])) or ""), theirs, tolerance
        )
    # 1,000\sqrt{2}; what is a list has been parted before
    a, t = (re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", side) for side in (a, t))
    if len(split(a)) != len(split(t)) or prose(_bare(a)) or prose(_bare(t)):
        return squeeze(_bare(a)) == squeeze(_bare(t))
    return not (monstrous(a) or monstrous(t)) and not _other_case(a, t) and leaf(_bare(a), _bare(t))


def _other_case(answer: str, truth: str) -> bool:
    """Whether a variable is written in the other case: m is not M, as math-verify thinks."""
    a, t = (
        set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", side))) for side in (answer, truth)
    )
    return any(c.swapcase() in t and c not in t for c in a)


def _unworked(text: str) -> bool:
    """Nothing that algebra could make a number of, or a sum or product nobody worked out: "7-1+9"
    is the question, not the answer.
    """
    text = re.sub(r"\\(?:times|cdot|div)(?![A-Za-z])", "*", text)
    if not re.search(r"[\\^(|]", text):
        return True
    return not re.search(r"[A-Za-z\\]", text) and bool(
        re.search(r"[\d)]\s*[-+*/:]\s*[-+(]*\s*[\d.]", text)
    )


def monstrous(text: str) -> bool:
    """A tower of powers or a huge power or factorial, which algebra would try to write out."""
    return bool(
        re.search(
            r"\^\s*(?:\{[^{}]*\^|\w\s*\^)|\^\s*\{?\s*-?\d{5,}|\^\s*\{?\s*\w*\s*\}?\s*!|\d{4,}\s*!|\)\s*!|\}\s*!",
            text,
        )
    )


def _bare(text: str) -> str:
    """An expression without the unit behind it."""
    cut = re.fullmatch(
        r"(.*[\d}A-Za-z)])\s*\\text\s*\{\s*([^{}]*?)\s*\}(?:\s*\^\s*\{?\s*[23]\s*\}?)?", text
    )
    return cut[1] if cut and unit(cut[2]) is not None else text


def _sets(answer: str, truth: str, equal: Leaf) -> bool:
    """Any order. A comma may part two members or the thousands of one: both sides are read in the
    one way, or both in the other.
    """
    return any(
        matched(items(answer, t) or [answer], items(truth, t) or [truth], equal)
        for t in (True, False)
    )


def _tuples(answer: str, truth: str, equal: Leaf) -> bool:
    """Ordered, bracket by bracket; vectors and matrices row by row. Several tuples in a row are
    compared in any order.
    """
    a = _rows(answer)
    t = _rows(truth)
    if a is None or t is None:
        several = [split(re.sub(r"\band\b|\bor\b", ",", x)) for x in (answer, truth)]
        if len(several[1]) > 1 and all(_rows(p) for p in several[0] + several[1]):
            return matched(several[0], several[1], lambda x, y: _tuples(x, y, equal))
        return equal(answer, truth) if t is None and a is None else False
    return len(a) == len(t) and all(
        len(x) == len(y) and all(map(equal, x, y)) for x, y in zip(a, t, strict=True)
    )


def _rows(text: str) -> list[list[str]] | None:
    """Rows of a tuple or matrix; the brackets are its first row, since (1,2) is not [1,2]."""
    text = re.sub(r"^[A-Za-z(),\s]*=\s*(?=[(\[\\])", "", text.strip())
    matrix = re.fullmatch(
        r"\\begin\s*\{([pbv])matrix\}(.*)\\end\s*\{[pbv]matrix\}", text, re.DOTALL
    )
    if matrix:
        rows = [
            [c.strip() for c in row.split("&")]
            for row in re.split(r"\\\\", matrix[2])
            if row.strip()
        ]
        return [["matrix"], *rows]
    if len(text) > 2 and text[0] in "([" and text[-1] in ")]" and len(split(text)) == 1:
        inner = split(text[1:-1])
        return [[text[0] + text[-1]], inner] if len(inner) > 1 else None
    return None


def _intervals(answer: str, truth: str, equal: Leaf) -> bool:
    a = pieces(answer)
    t = pieces(truth)
    if a is None or t is None:
        return equal(answer, truth) if a is None and t is None else False

    def one(x: Piece, y: Piece) -> bool:
        ends = x.closed_low == y.closed_low and x.closed_high == y.closed_high
        return ends and equal(x.low, y.low) and equal(x.high, y.high)

    return matched(a, t, one)


def _equations(answer: str, truth: str, equal: Leaf) -> bool:
    """The same up to a factor and to swapped or moved terms. A truth that only names a value ("x =
    5") is met by the value.
    """
    if "=" not in answer:
        named = re.fullmatch(r"[A-Za-z](?:_\{?\w+\}?)?\s*=\s*([^=]+)", truth)
        return bool(named and number(named[1])) and equal(answer, named[1] if named else truth)
    (a, mine), (t, theirs) = (side.split("=", 1) for side in (answer, truth))
    if squeeze(a) == squeeze(t) and "=" not in mine + theirs:
        return equal(mine, theirs)
    return equal(answer, truth)
