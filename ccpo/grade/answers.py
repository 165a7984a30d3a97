"""Whether two answers are the same: structure by our own rules, algebra by algebra.py, and never a
tolerance that nobody declared.

Kinds of truth: number, expression, set (any order), multiset (any order, but how often counts),
tuple (order and brackets count), interval, equation, choice, text. What is compared is the answer
alone, already taken out of its message (message.py). A unit that the truth names may be left out;
another unit is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import partial

from ccpo.grade import algebra, choices
from ccpo.grade.intervals import Piece, joined, pieces
from ccpo.grade.lists import items, matched
from ccpo.grade.numbers import Number, close, literal, number
from ccpo.grade.tuples import by_name, rows_of, same_tuples
from ccpo.grade.typeset import depths, split, squeeze, tidy, untexted
from ccpo.grade.units import alike
from ccpo.grade.values import (
    has_letters,
    is_name,
    members,
    monstrous,
    prose,
    unworked,
    without_unit,
    worked_ones,
)

Leaf = Callable[[str, str, float], bool]  # answer, truth, tolerance
Equal = Callable[[str, str], bool]


class Undecided(Exception):
    """No quick rule decides."""


def undecided(answer: str, truth: str, tolerance: float = 0.0) -> bool:
    """The leaf of the quick way: whoever asks must take the slow one."""
    raise Undecided


symbolic = algebra.equivalent
value = algebra.value


# ---- the rules, one for each kind -------------------------------------------------------------


def _chained(answer: str, truth: str, equal: Equal, leaf: Leaf) -> bool:
    """Whether a chain like "m+n=256+37=293" comes to the truth: after the names all sides are worth
    the same, and one of them is the truth as it must be written.
    """
    numeric = not has_letters(truth)
    sides = members(answer)
    if len(sides) == 2 and is_name(sides[1], False):
        sides.reverse()  # "6 = x"
    while len(sides) > 1 and is_name(sides[0], numeric):
        name = sides.pop(0)
        if _BOUND.search(name) and not _unknown(name, truth, leaf):
            return False
    if not any(equal(side, truth) for side in sides):
        return False
    return all(equal(side, truth) or _worth(side, truth, leaf) for side in sides)


_ALSO = re.compile(
    r"(?:,\s*|\b|\\text\s*\{\s*,?\s*)"
    r"(?:or(?: equivalently)?|i\.e\.|that is|equivalently)(?![A-Za-z])(?:\s*,|\s*\})?"
)


def _rounds(part: str, exact: str, leaf: Leaf) -> bool:
    """Whether a decimal behind an approximation sign is near what stands before it."""
    rounded = number(part)
    if rounded is None or rounded.last is None:
        return True
    if known := number(exact):
        worth: float | Fraction | None = known.value
    elif leaf is undecided:
        raise Undecided
    else:
        worth = value(exact)
    return worth is not None and abs(Fraction(worth) - rounded.value) <= rounded.last


_BOUND = re.compile(r"\\(?:sum|prod|int|lim)(?![A-Za-z])")


def _unknown(name: str, truth: str, leaf: Leaf) -> bool:
    """Whether a sum, integral or limit may name the truth: it has that value, or letters of its own
    so that it has none.
    """
    if leaf is undecided:
        raise Undecided
    return value(name) is None or _worth(name, truth, leaf)


def _worth(side: str, truth: str, leaf: Leaf) -> bool:
    side = without_unit(side)[0]
    truth = without_unit(truth)[0]
    return not (monstrous(side) or prose(side) or prose(truth)) and leaf(side, truth, 0.0)


def _plain(answer: str, truth: str, tolerance: float, leaf: Leaf) -> bool:
    """Numbers and expressions. What names its value ("x = 5" for 5) is read as the value; a list is
    none.
    """
    a = answer.strip()
    t = truth.strip()
    if squeeze(a) == squeeze(t):
        return True
    equal = partial(_plain, tolerance=tolerance, leaf=leaf)
    if "\\Rightarrow" in a or "\\Rightarrow" in t:
        return False
    if "\\approx" in a:
        parts = [part for part in re.split(r"\\approx(?![A-Za-z])", a) if part.strip()]
        right = len(parts) > 1 and any(equal(p, t) for p in (parts if tolerance else parts[:1]))
        return right and all(_rounds(part, parts[0], leaf) for part in parts[1:])
    if len(also := _ALSO.split(a)) > 1 and not _ALSO.search(t):
        return all(equal(part, t) for part in also)
    sides = (len(members(a)), len(members(t)))
    if min(sides) > 1:
        return _sides(a, t, equal, leaf, tolerance)
    if sides[0] > 1:
        return _chained(a, t, equal, leaf)
    if sides[1] > 1:
        return any(equal(a, side) for side in _named_sides(t, a))
    return _valued(a, t, tolerance, leaf)


def _named_sides(truth: str, answer: str) -> list[str]:
    """Of a truth like "x = 5" or "0.56 = 56\\%": the sides that an answer without "=" may give."""
    sides = members(truth)
    return [side for side in sides if not is_name(side, not has_letters(answer))]


def _valued(a: str, t: str, tolerance: float, leaf: Leaf) -> bool:
    """Two answers without "=": numbers by their values, formulas by algebra."""
    own = number(a, decimal_comma=True)
    key = number(t)
    if own and key:
        return close(own, key, tolerance)
    if key and unworked(a):
        return False
    formula_a, unit_a = without_unit(a)
    formula_t, unit_t = without_unit(t)
    if not alike(unit_a, unit_t):
        return False
    if key and key.unit.startswith("base"):
        return False
    if key and tolerance and key.last is not None:
        return _rounded(formula_a, unit_a, key, tolerance, leaf)
    if (dimensions := _dimensions(formula_t)) or _dimensions(formula_a):
        return dimensions == _dimensions(formula_a)
    formula_a = _without_thousands(formula_a)
    formula_t = _without_thousands(formula_t)
    if key and not unit_t and re.fullmatch(r"\\?\$.*|.*%", t):
        formula_t = str(key.value / (100 if key.percent else 1))
    return _formulas(formula_a, formula_t, tolerance, leaf)


def _formulas(a: str, t: str, tolerance: float, leaf: Leaf) -> bool:
    if len(split(a)) != len(split(t)) or prose(a) or prose(t) or _acronym(t):
        return squeeze(a) == squeeze(t)
    if _DOTS.search(a + t):
        return squeeze(a) == squeeze(t)
    decimals = re.search(r"\d\.\d", t)
    return not (monstrous(a) or monstrous(t)) and leaf(
        worked_ones(a), worked_ones(t), tolerance if decimals else 0.0
    )


_DOTS = re.compile(r"\\[lc]?dots(?![A-Za-z])|\.\.\.|…")


def _acronym(text: str) -> bool:
    """Capitals alone are a name, not a product: IS is not SI."""
    return bool(re.fullmatch(r"[A-Z]{2,}", text))


def _rounded(answer: str, unit_of_it: str, truth: Number, tolerance: float, leaf: Leaf) -> bool:
    """A formula for a decimal that may be rounded: what it is worth decides."""
    if leaf is undecided:
        raise Undecided
    worth = None if monstrous(answer) or prose(answer) else value(answer)
    return worth is not None and close(Number(Fraction(worth), False, unit_of_it), truth, tolerance)


def _dimensions(text: str) -> list[Fraction]:
    """12 x 18 x 11 as its sorted factors; none where it is anything else."""
    parts = re.split(r"\\times(?![A-Za-z])|\bby\b|(?<=\d)\s*x\s*(?=\d)", untexted(text))
    read = [literal(part) for part in parts if "^" not in part]
    if len(parts) < 2 or len(read) != len(parts) or not all(read):
        return []
    return sorted(r[0] for r in read if r)


def _without_thousands(text: str) -> str:
    """1,000\\sqrt{2} without its comma; a comma inside brackets parts a list."""
    deep = depths(text)
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", lambda m: "," if deep[m.start()] else "", text)


def _sides(a: str, t: str, equal: Equal, leaf: Leaf, tolerance: float) -> bool:
    """Two equations: side by side, with equal names (y may stand for f(x)), or by algebra."""
    own = members(a)
    key = members(t)
    if len(own) == len(key) == 2:
        if squeeze(own[0]) == squeeze(key[0]):
            return equal(own[1], key[1])
        if _same_function(own[0], key[0]):
            return equal(own[1], key[1])
    if len(own) > 2 and len(key) == 2 and _same_function(own[0], key[0]):
        return _chained("=".join(own[1:]), key[1], equal, leaf)
    formula_a = without_unit(a)[0]
    formula_t = without_unit(t)[0]
    if len(own) != 2 or len(key) != 2 or prose(formula_a) or prose(formula_t):
        return False
    if len(split(a)) != len(split(t)) or monstrous(a) or monstrous(t):
        return False
    return leaf(formula_a, formula_t, tolerance if re.search(r"\d\.\d", t) else 0.0)


def _same_function(left: str, right: str) -> bool:
    """C and C(h); y and f(x)."""
    cut = [re.sub(r"\s*\([A-Za-z]\)\s*$", "", side.strip()) for side in (left, right)]
    calls = [c != side.strip() for c, side in zip(cut, (left, right), strict=True)]
    if all(calls):
        return squeeze(left) == squeeze(right)
    if not any(calls) or not all(re.fullmatch(r"\\?[A-Za-z]+(?:_\{?\w+\}?)?", c) for c in cut):
        return squeeze(left) == squeeze(right)
    return cut[0] == cut[1] or (not all(calls) and "y" in cut)


def _equations(answer: str, truth: str, equal: Equal) -> bool:
    """The same up to a factor and to swapped or moved terms. A truth that only names a value ("x =
    5") is met by the value, one that names a formula by the formula.
    """
    if "=" in answer:
        return equal(answer, truth)
    sides = members(truth)
    if len(sides) == 2 and is_name(sides[0], False):
        worked = bool(re.search(r"[\d+\-*/^\\]", untexted(sides[1])))
        return worked and not _acronym(squeeze(sides[1])) and equal(answer, sides[1])
    return (len(sides) > 2 or not has_letters(truth)) and any(
        equal(answer, side) for side in sides if not is_name(side, False)
    )


def _sets(answer: str, truth: str, equal: Equal, often: bool = False) -> bool:
    """Any order, but values of several names ("y=3, x=2") are in the order of their names. A comma
    may part two members or the thousands of one: both sides are read in the one way, or both in the
    other; a list in brackets is never thousands.
    """
    if _BUILDER.match(answer) or _BUILDER.match(truth):
        return _same_builders(answer, truth, equal)
    named = by_name(answer)
    wanted = _read(truth, False)
    if named and not any("=" in member for member in wanted):
        return len(named) == len(wanted) and all(map(equal, named, wanted))

    def one(x: str, y: str) -> bool:
        return equal(x, y) if rows_of(y) is None else same_tuples(x, y, equal)

    readings = (True, False)
    return any(
        matched(_read(answer, t), _read(truth, t), one, often)
        for t in readings
        if not (
            t and re.match(r"\\\{", truth) and len(_read(truth, False)) > len(_read(truth, True))
        )
    )


_BUILDER = re.compile(r"\\\{\s*([A-Za-z])\s*(?:\||:)(.*)\\\}")
_RULE = re.compile(r"\s*([A-Za-z])\s*=\s*([^,=]+),\s*([A-Za-z])\s*\\in\s*(.+?)\s*")


def _same_builders(answer: str, truth: str, equal: Equal) -> bool:
    """{x | x = 3k, k in Z} is {y | y = 3n, n in Z} and "x = 3k, k in Z"; what is built in another
    way only if it is written alike.
    """
    formulas = []
    for text in (answer, truth):
        built = _BUILDER.fullmatch(text)
        rule = _RULE.fullmatch(built[2] if built else text)
        if not rule or (built and rule[1] != built[1]):
            return squeeze(answer) == squeeze(truth)
        letter = rf"(?<![A-Za-z\\]){rule[3]}(?![A-Za-z])"
        if not re.search(letter, rule[2]):
            return False
        formulas.append((re.sub(letter, "k", rule[2]), squeeze(rule[4])))
    return formulas[0][1] == formulas[1][1] and equal(formulas[0][0], formulas[1][0])


def _read(text: str, thousands: bool) -> list[str]:
    inner = re.fullmatch(r"(?:[A-Za-z](?:_\w)?\s*(?:=|\\in)\s*)?\\\{(.*)\\\}", text)
    if inner and not thousands:
        return items(text, False) or []
    members = items(text, thousands)
    return [text] if members is None else members


def _intervals(answer: str, truth: str, equal: Equal) -> bool:
    a = pieces(answer)
    t = pieces(truth)
    if a is None or t is None:
        return equal(answer, truth) if a is None and t is None else False

    def one(x: Piece, y: Piece) -> bool:
        ends = x.closed_low == y.closed_low and x.closed_high == y.closed_high
        return ends and equal(x.low, y.low) and equal(x.high, y.high)

    return matched(a, t, one) or (
        len(a) != len(t) and matched(joined(a, equal), joined(t, equal), one)
    )


def words(text: str) -> str:
    """A text answer in normal form: no case, articles, quotes, final punctuation, \\text. Blanks
    count only between digits.
    """
    text = untexted(tidy(text)).replace("\\", "").lower()
    text = re.sub(r"[\"'`.!?]+$|^[\"'`]+", "", text.strip())
    text = re.sub(r"^(?:an?|the)\s+", "", text)
    text = re.sub(r"\b([ap])\.\s?m\b\.?", r"\1m", text)
    return re.sub(r"(?<!\d)[\s{}$]+|[\s{}$]+(?!\d)", "", text)


def _choice(answer: str, truth: str, tolerance: float, leaf: Leaf) -> bool:
    """By letter; where the truth says what its option is ("(C) 12"), by that too."""
    letter = choices.letter(answer)
    named = choices.option(truth)
    if letter is not None and (not named or letter in "ABCDEFGHJK"):
        return letter == (truth.strip()[1] if named else choices.letter(truth))
    if not named:
        return False
    kinds = ["text", "tuple" if rows_of(tidy(named)) else "set", "expression"]
    return any(same(answer, named, kind, tolerance, leaf) for kind in kinds)


def _numbers(answer: str, truth: str, equal: Equal) -> bool:
    return equal(answer, truth)


def _multisets(answer: str, truth: str, equal: Equal) -> bool:
    return _sets(answer, truth, equal, often=True)


_RULES: dict[str, Callable[[str, str, Equal], bool]] = {
    "number": _numbers,
    "expression": _numbers,
    "set": _sets,
    "multiset": _multisets,
    "tuple": same_tuples,
    "interval": _intervals,
    "equation": _equations,
}
KINDS = (*_RULES, "choice", "text")


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
        return _choice(answer, truth, tolerance, leaf)
    if kind == "text":
        return words(answer) == words(truth)
    a = tidy(answer)
    t = tidy(truth)
    if named := choices.option(truth):
        if (label := choices.label(a)) and not (rest := label[1]):
            return label[0] == truth.strip()[1]
        if label and label[0] == truth.strip()[1]:
            a = tidy(rest)
        t = tidy(named)
    if not a or a.count("{") != a.count("}"):
        return False
    if squeeze(a) == squeeze(t):
        return True
    return _RULES[kind](a, t, partial(_plain, tolerance=tolerance, leaf=leaf))
