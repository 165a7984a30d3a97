"""Whether two formulas are algebraically the same. math-verify's parser (latex2sympy2_extended)
reads them; what they are worth decides, exactly for rational numbers and else at test points, to
more digits than their own exponents and integers could hide.

No time limit is kept here: call it where one is (process.py). What cannot be read is the same as
nothing.
"""

from __future__ import annotations

import functools
import math
import random
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from ccpo.grade.typeset import depths

_LARGEST = 3000  # digits; formulas whose numbers need more are not compared
_SPARE = 30  # digits beyond those that integers and exponents of the formulas could hide
_STEPS = {"floor", "ceiling", "Mod", "sign", "Piecewise", "Heaviside", "Max", "Min"}

Expression = Any  # a sympy expression; the library has no types


# ---- reading ----------------------------------------------------------------------------------

# Letters that the parser takes for constants: here they are names.
_NAMES = [
    (re.compile(r"(?<![\\A-Za-z])e\s*(?=_)"), r"\\varpi "),
    (re.compile(r"(?<![\\A-Za-z])i\s*(?=_)"), r"\\iota "),
    (re.compile(r"\\text\s*\{\s*e\s*\}"), "e"),
    (re.compile(r"\\text\s*\{\s*i\s*\}"), "i"),
    (re.compile(r"\\text\s*\{\s*([A-Za-z])\s*\}"), r"\1"),
    (re.compile(r"_\s*\{?\s*\\text\s*\{\s*([A-Za-z]+)\s*\}\s*\}?"), r"_{\1}"),
    (re.compile(r"\\mathbb\s*\{\s*([A-Za-z])\s*\}"), r"\1"),
]
_CAPITALS = re.compile(r"\\[A-Za-z]+|[EI]")
_DEGREES = re.compile(
    r"(\{[^{}]*\}|\([^()]*\)|\d+(?:\.\d+)?|(?<![A-Za-z\\])[a-z]|\\[a-z]+)\s*\\text\s*\{\s*degrees?\s*\}"
)


def _prepared(text: str) -> str:
    text = _DEGREES.sub(r"(\1\\cdot\\frac{\\pi}{180})", text)
    text = _CAPITALS.sub(lambda m: {"E": "\\Xi ", "I": "\\Upsilon "}.get(m[0], m[0]), text)
    for pattern, to in _NAMES:
        text = pattern.sub(to, text)
    # decimals are made fractions, so that nothing is compared in floating point
    return re.sub(
        r"(\d*)\.(\d+)", lambda m: f"\\frac{{{m[1] or 0}{m[2]}}}{{1{'0' * len(m[2])}}}", text
    )


@functools.cache
def _reader() -> Any:
    from latex2sympy2_extended import NormalizationConfig, latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    # its way with units would read "t" in "t/m" as tonnes
    spelling = NormalizationConfig(
        basic_latex=True,
        units=False,
        malformed_operators=True,
        nits=True,
        boxed="none",
        equations=False,
    )
    meaning = ConversionConfig(
        interpret_as_mixed_fractions=True,
        interpret_simple_eq_as_assignment=False,
        interpret_contains_as_eq=False,
        lowercase_symbols=False,
    )
    return functools.partial(
        latex2sympy, is_real=True, normalization_config=spelling, conversion_config=meaning
    )


_DEEPEST = 10  # brackets in brackets; the parser takes seconds for twice as many


def _tangled(text: str) -> bool:
    """Whether the parser would take long: brackets that are deep or do not match, many bars or
    integrals, indices of indices, long runs of signs.
    """
    deep = depths(re.sub(r"\\[{}]", "", text))
    opened = sum(map(text.count, "([{"))
    closed = sum(map(text.count, ")]}"))
    return (
        max(deep, default=0) > _DEEPEST
        or opened != closed
        or text.count("|") > _DEEPEST
        or text.count("\\int") > 3
        or bool(re.search(r"(?:_\s*\w\s*){3}|(?:[-+!]\s*){6}|(?:\\[A-Za-z]+\s*){12}", text))
    )


@functools.lru_cache(maxsize=1 << 12)
def parsed(text: str) -> Expression | None:
    """A formula as sympy has it, derivatives, sums and integrals worked out; None: it cannot be
    read, or a derivative is taken of a letter that may depend on another.
    """
    import sympy

    if re.search(r"(?<![_^\d])\d+\s+\d", text) or not text.strip() or _tangled(text):
        return None
    try:
        read = _reader()(_prepared(text))
    except Exception:  # the parser raises plain Exception, and whatever goes wrong inside it
        return None
    if isinstance(read, Sequence) and not isinstance(read, str):
        read = read[0] if len(read) == 1 else None
    if read is None or not isinstance(read, sympy.Basic):
        return None
    read = read.xreplace({s: sympy.I for s in read.free_symbols if s.name == "i"})
    for derivative in read.atoms(sympy.Derivative):
        if not derivative.expr.free_symbols <= set(derivative.variables):
            return None
    if not _workable(read):
        return None
    try:
        return read.doit()
    except (TypeError, ValueError, AttributeError, NotImplementedError):
        return None


_MOST_TERMS = 1000  # of a sum or product that is no polynomial
_MOST_STEPS = 25  # operations below a limit
_MOST_EXPANDED = 64  # powers of sums that are multiplied out


def _workable(read: Expression) -> bool:
    """Whether the sums, products, integrals and limits of a formula are of those that are worked
    out in little time. This is what ends the algebra, and not the clock, so that a verdict is the
    same each time.
    """
    import sympy

    listed = read.atoms(sympy.Sum, sympy.Product)
    return (
        all(_short(x) for x in listed)
        and all(_elementary(x) for x in read.atoms(sympy.Integral))
        and all(x.args[0].count_ops() <= _MOST_STEPS for x in read.atoms(sympy.Limit))
    )


def _short(listed: Expression) -> bool:
    """Whether a sum or product has few terms, or is the sum of a polynomial."""
    import sympy

    for index, low, high in listed.limits:
        span = high - low
        few = not span.is_number or not span.is_finite or span <= _MOST_TERMS
        if not few and not (isinstance(listed, sympy.Sum) and listed.function.is_polynomial(index)):
            return False
    return True


def _elementary(integral: Expression) -> bool:
    """Whether an integrand is made of polynomials, and of exp, sin and cos of linear functions."""
    import sympy

    letters = integral.variables
    formula = integral.function
    for applied in formula.atoms(sympy.exp, sympy.sin, sympy.cos):
        argument = applied.args[0]
        if not all(argument.is_polynomial(x) and sympy.degree(argument, x) <= 1 for x in letters):
            return False
        formula = formula.xreplace({applied: sympy.Dummy()})
    return all(formula.is_polynomial(x) for x in letters) and _expandable(formula)


def _expandable(formula: Expression) -> bool:
    """Whether the powers of sums in a formula can be multiplied out in little time."""
    import sympy

    powers = 1
    for power in formula.atoms(sympy.Pow):
        if isinstance(power.base, sympy.Add) and power.exp.is_Integer:
            powers *= abs(int(power.exp))
    return powers <= _MOST_EXPANDED


# ---- derivatives are letters of their own -----------------------------------------------------

_LETTER = r"(\\(?!frac|cdot|text|sqrt|dot|ddot)[A-Za-z]+|[A-Za-z])(?:_\{?([A-Za-z0-9]+)\}?)?"
_ARGUMENT = r"(?:\s*\(\s*[A-Za-z]\s*\))?"
_D = r"(?:\\text\s*\{\s*d\s*\}|\\partial|d)"
_ORDER = r"(?:\s*\^\s*\{?\s*(\d)\s*\}?)?"
_FRACTION = re.compile(
    rf"\\frac\s*\{{\s*{_D}{_ORDER}\s*{_LETTER}{_ARGUMENT}\s*\}}\s*"
    rf"\{{\s*{_D}\s*\{{?([A-Za-z])\}}?(?:\s*\^\s*\{{?\s*\d\s*\}}?)?\s*\}}"
)
_SLASH = re.compile(
    rf"(?<![A-Za-z\\]){_D}{_ORDER}\s*{_LETTER}{_ARGUMENT}\s*/\s*{_D}\s*([A-Za-z])(?![A-Za-z])"
    rf"(?:\s*\^\s*\{{?\s*\d\s*\}}?)?"
)
_DOT = re.compile(rf"\\(d?)dot\s*\{{?\s*{_LETTER}\s*\}}?{_ARGUMENT}")
_PRIME = re.compile(rf"(?<![A-Za-z\\]){_LETTER}\s*('+){_ARGUMENT}")


def derivatives(answer: str, truth: str) -> tuple[str, str]:
    """Both formulas with their derivatives as letters: dx/dt, \\dot x and x' are one thing, as long
    as only one letter is derived by. What is derived is a function, so that x(t) is x.
    """
    variables = {
        m[4] for text in (answer, truth) for p in (_FRACTION, _SLASH) for m in p.finditer(text)
    }
    implied = variables.pop() if len(variables) == 1 else ""
    out = []
    for text in (answer, truth):
        new = _FRACTION.sub(lambda m: _letter(m[1] or "1", m[2], m[3], m[4]), text)
        new = _SLASH.sub(lambda m: _letter(m[1] or "1", m[2], m[3], m[4]), new)
        new = _DOT.sub(lambda m: _letter("2" if m[1] else "1", m[2], m[3], implied), new)
        new = _PRIME.sub(lambda m: _letter(str(len(m[3])), m[1], m[2], implied), new)
        out.append(new)
    if out != [answer, truth]:
        out = [re.sub(rf"({_LETTER})\s*\(\s*{implied or 't'}\s*\)", r"\1 ", text) for text in out]
    return out[0], out[1]


def _letter(order: str, name: str, index: str | None, variable: str) -> str:
    spelled = f"{name}{'w' + index if index else ''}".replace("\\", "")
    spelled = spelled.replace("E", "ZeZ").replace("I", "ZiZ")
    digits = str.maketrans("0123456789", "abcdefghij")
    return f" \\Psi_{{{'D' * int(order)}q{spelled.translate(digits)}q{variable}}} "


# ---- comparing --------------------------------------------------------------------------------


def equivalent(answer: str, truth: str, tolerance: float = 0.0) -> bool:
    """Whether two expressions, or two equations, are algebraically the same (equations up to a
    constant factor and moved terms).

    tolerance: coefficients of the truth that are no whole numbers may be met up to this relative
    error.
    """
    import sympy

    pair = derivatives(answer, truth)
    a, t = (parsed(side) for side in pair)
    if a is None or t is None:
        return False
    if isinstance(a, sympy.Equality) or isinstance(t, sympy.Equality):
        return (
            isinstance(a, sympy.Equality)
            and isinstance(t, sympy.Equality)
            and (
                _same_zeros(*_solved(a.lhs - a.rhs, t.lhs - t.rhs))
                or (
                    tolerance > 0
                    and _near(a.lhs, t.lhs, tolerance)
                    and _near(a.rhs, t.rhs, tolerance)
                )
            )
        )
    if isinstance(a, sympy.MatrixBase) or isinstance(t, sympy.MatrixBase):
        return (
            isinstance(a, sympy.MatrixBase)
            and a.shape == getattr(t, "shape", None)
            and all(_same_values(x, y) for x, y in zip(a, t, strict=True))
        )
    if not isinstance(a, sympy.Expr) or not isinstance(t, sympy.Expr):
        return bool(a == t)
    return _same_values(a, t) or (tolerance > 0 and _near(a, t, tolerance))


def _same_values(a: Expression, t: Expression) -> bool:
    import sympy

    if any(x.has(sympy.nan, sympy.zoo) for x in (a, t)):
        return False
    if a == t:
        return True
    if any(x.has(sympy.oo, -sympy.oo) for x in (a, t)):
        return False
    if a.is_Rational and t.is_Rational:
        return False
    a, t = _without_functions(a, t)
    if any(x.has(sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit) for x in (a, t)):
        return False
    digits = _digits(a, t)
    if digits > _LARGEST:
        return False
    names = sorted(a.free_symbols | t.free_symbols, key=lambda s: s.name)
    complexes = a.has(sympy.I) or t.has(sympy.I) or not names
    compared = 0
    for point in _points(names, a, t):
        x = _at(a, point, digits)
        y = _at(t, point, digits)
        if x is None or y is None or not (complexes or (_real(x, digits) and _real(y, digits))):
            continue
        if not _alike(x, y, digits) and not (_zero(a, point, digits) and _zero(t, point, digits)):
            return False
        compared += 1
    return compared >= (2 if names else 1)


def _same_zeros(a: Expression, t: Expression) -> bool:
    """Whether a = 0 and t = 0 are one equation: their ratio is a number other than 0."""
    import sympy

    a, t = _without_functions(a, t)
    names = sorted(a.free_symbols | t.free_symbols, key=lambda s: s.name)
    digits = _digits(a, t)
    if not names or digits > _LARGEST or a.has(sympy.zoo, sympy.nan) or t.has(sympy.zoo, sympy.nan):
        return False
    ratios = []
    for point in _points(names, a, t):
        x = _at(a, point, digits)
        y = _at(t, point, digits)
        if x is None or y is None or not (_real(x, digits) and _real(y, digits)):
            continue
        if _tiny(x, digits) or _tiny(y, digits):
            return False
        ratios.append(x / y)
    return len(ratios) >= 2 and all(_alike(p, q, digits - 5) for p, q in pairwise(ratios))


def _solved(a: Expression, t: Expression) -> tuple[Expression, Expression]:
    """Differential equations that are linear in their one highest derivative, solved for it, as
    what they are divided by may have letters in it; others as they are.
    """
    derived = [
        sorted((s for s in x.free_symbols if s.name.startswith("Psi_")), key=lambda s: s.name)
        for x in (a, t)
    ]
    if derived[0] != derived[1] or len(derived[0]) != 1:
        return a, t
    if not (_expandable(a) and _expandable(t)):
        return a, t
    letter = derived[0][0]
    out = []
    for formula in (a, t):
        slope = formula.expand().coeff(letter, 1)
        rest = (formula - slope * letter).expand()
        if slope == 0 or rest.has(letter):
            return a, t
        out.append(letter + rest / slope)
    return out[0], out[1]


def _without_functions(a: Expression, t: Expression) -> tuple[Expression, Expression]:
    """Both with f(...) of an unknown function f as one letter."""
    import sympy
    from sympy.core.function import AppliedUndef

    letters = {}
    for applied in sorted(a.atoms(AppliedUndef) | t.atoms(AppliedUndef), key=str):
        name = f"{applied.func}({','.join(str(sympy.expand(x)) for x in applied.args)})"
        letters[applied] = sympy.Symbol(name, real=True)
    return a.xreplace(letters), t.xreplace(letters)


def _digits(*expressions: Expression) -> int:
    """Digits to compare with: more than any difference that the integers of the formulas make."""
    import sympy

    hidden = 0.0
    for expression in expressions:
        for part in sympy.preorder_traversal(expression):
            if isinstance(part, sympy.Rational):
                hidden += len(str(part.p)) + len(str(part.q))
            elif isinstance(part, sympy.Pow) and part.exp.is_Rational and part.base.is_number:
                size = _log10(part.base)
                hidden += abs(float(part.exp)) * size if math.isfinite(size) else _LARGEST
            elif isinstance(part, sympy.factorial) and part.args[0].is_Integer:
                n = abs(int(part.args[0]))
                hidden += n * math.log10(n + 2)
            elif isinstance(part, sympy.exp) and part.args[0].is_number:
                hidden += abs(float(abs(part.args[0].evalf(5)))) / 2
    return _SPARE + int(2 * hidden)


def _log10(base: Expression) -> float:
    size = float(abs(base.evalf(5)))
    return abs(math.log10(size)) if size else 0.0


def _points(names: Sequence[Expression], *formulas: Expression) -> Iterator[dict[Any, Any]]:
    """Values of the letters to compare at: below and above 1, of both signs, whole numbers; many
    more for functions with steps.
    """
    import sympy

    if not names:
        yield {}
        return
    rng = random.Random(20240229)

    def draw(low: int, high: int) -> Expression:
        return sympy.Rational(rng.randint(low, high), 9973)

    steps = any(type(p).__name__ in _STEPS for f in formulas for p in sympy.preorder_traversal(f))
    ranges = [(900, 8900), (900, 8900), (11000, 30000), (-30000, -11000), (-8900, 8900)]
    ranges += [(-30000, 30000)] * 2
    ranges += [(-2_000_000, 2_000_000)] * 40 if steps else []
    for low, high in ranges:
        yield {name: draw(low, high) for name in names}
    for whole in (1, 2, 5) if any(name.name in "nmkNK" for name in names) else ():
        yield {name: sympy.Integer(whole + i) for i, name in enumerate(names)}


def _at(expression: Expression, point: dict[Any, Any], digits: int) -> Expression | None:
    import sympy

    try:
        value = expression.evalf(digits, subs=point, maxn=4 * digits)
    except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError):
        return None
    if not value.is_number or value.has(sympy.nan, sympy.zoo, sympy.oo, sympy.I * sympy.oo):
        return None
    return value if value.is_comparable or value.as_real_imag()[1].is_comparable else None


def _zero(expression: Expression, point: dict[Any, Any], digits: int) -> bool:
    """Whether a formula has no digit other than 0, to three times as many as could be hidden."""
    value = _at(expression, point, 3 * digits)
    return value is not None and _tiny(value, 3 * digits)


def _size(value: Expression) -> Expression:
    real, imaginary = value.as_real_imag()
    return abs(real) + abs(imaginary)


def _real(value: Expression, digits: int) -> bool:
    imaginary = value.as_real_imag()[1]
    return bool(abs(imaginary) <= _size(value) * Fraction(1, 10 ** (digits // 2)))


def _tiny(value: Expression, digits: int) -> bool:
    return bool(_size(value) <= Fraction(1, 10 ** (digits - 2)))


def _alike(x: Expression, y: Expression, digits: int) -> bool:
    scale = max(_size(x), _size(y))
    return bool(_size(x - y) <= scale * Fraction(1, 10 ** (digits - 8)))


def _near(a: Expression, t: Expression, tolerance: float) -> bool:
    """Whether two formulas are the same but for coefficients of the truth that are no whole
    numbers, which may be off by the relative error.
    """
    import sympy

    if not (_expandable(a) and _expandable(t)):
        return False
    a = sympy.expand(a)
    t = sympy.expand(t)
    if not t.free_symbols or a.free_symbols != t.free_symbols:
        return False
    have = a.as_coefficients_dict()
    want = t.as_coefficients_dict()
    have = _by_letters(have)
    want = _by_letters(want)
    if have.keys() != want.keys():
        return False
    return all(_near_number(have[k], want[k], tolerance) for k in want)


def _by_letters(terms: dict[Expression, Expression]) -> dict[Expression, Expression]:
    """Coefficients by what of each term has letters in it."""
    import sympy

    out: dict[Expression, Expression] = {}
    for term, coefficient in terms.items():
        number, letters = term.as_independent(*term.free_symbols, as_Add=False)
        letters = letters if term.free_symbols else sympy.Integer(1)
        number = number if term.free_symbols else term
        letters = letters.xreplace(
            {f: sympy.Float(f, 3) for f in letters.atoms(sympy.Rational) if not f.is_Integer}
        )
        out[letters] = out.get(letters, 0) + number * coefficient
    return out


def _near_number(answer: Expression, truth: Expression, tolerance: float) -> bool:
    x = answer.evalf(20)
    y = truth.evalf(20)
    if not (x.is_comparable and y.is_comparable):
        return False
    if truth.is_Integer:
        return bool(abs(x - y) <= abs(y) * 1e-15)
    return bool(abs(x - y) <= abs(y) * tolerance)


def value(text: str) -> float | None:
    """The real value of a formula without letters, or None."""
    read = parsed(text)
    try:
        return float(read.evalf()) if read is not None else None
    except (TypeError, ValueError, AttributeError):
        return None
