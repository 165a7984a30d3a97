"""Numbers as people write them: exact values of literals, percentages, money, units. Pure rational
arithmetic, no floating point.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from ccpo.grade import units


@dataclass(frozen=True)
class Number:
    """A number literal: its exact value, whether it was a percentage (of which `value` is the
    number before the sign), its unit ("": none), the unit of its last decimal (None where it was
    written as an exact number), and the number before a word like "dozen" (None: no such word).
    """

    value: Fraction
    percent: bool = False
    unit: str = ""
    last: Fraction | None = None
    collective: Fraction | None = None


_GROUPED = r"[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d?(?:,\d{2})+,\d{3}"  # 1,234,567 and 12,34,567
_DIGITS = rf"(?:{_GROUPED}|\d+)"
_DECIMAL = rf"(?:{_DIGITS}\.\d*|\.\d+|{_DIGITS})"
_SIGN = r"([+-]?)\s*"
_PLAIN = re.compile(rf"{_SIGN}({_DECIMAL})(?:[eE]([+-]?\d{{1,3}}))?")
_COMMA = re.compile(rf"{_SIGN}(\d+),(\d{{1,2}}|\d{{4,}})")  # a decimal comma: never three digits
_REPEATING = re.compile(
    rf"{_SIGN}(\d+)\.(\d*)(?:\\(?:overline|bar|dot)\s*\{{\s*(\d+)\s*\}}|\((\d+)\))"
)
_DOTTED = re.compile(rf"{_SIGN}(\d+)\.(\d*)\\dot\{{(\d)\}}(\d*)\\dot\{{(\d)\}}")
_TIMES = re.compile(
    rf"{_SIGN}(?:({_DECIMAL})\s*(?:\\times|\\cdot|\*|x|X)\s*)?10\s*\^\s*"
    rf"(?:\{{\s*([+-]?\d{{1,3}})\s*\}}|([+-]?\d{{1,3}}))"
)
_GROUP = rf"(?:\{{\s*([+-]?{_DIGITS})\s*\}}|\s*(\d))"
_FRACTION = re.compile(rf"{_SIGN}(?:(\d+)\s*)?\\frac\s*{_GROUP}\s*{_GROUP}")
_SLASH = re.compile(rf"{_SIGN}(?:(\d+)\s+)?({_DIGITS}|\d+\.)\s*/\s*({_DIGITS})")
_LONGEST = 400  # characters of a literal; int() of more than 4,300 digits would raise

Literal = tuple[Fraction, Fraction | None]


def literal(text: str, decimal_comma: bool = False) -> Literal | None:
    """Value of a bare number literal and the unit of its last decimal (None: exact), or None.

    Read are integers with or without thousands commas, decimals, 4.5e33, 4.5\\times10^{33}, 3/4,
    \\frac34, 1 3/4, 0.1\\overline{6}.

    decimal_comma: 1234,5 is 1234.5; only where a list is out of the question.
    """
    text = text.strip()
    if len(text) > _LONGEST:
        return None
    if match := _PLAIN.fullmatch(text):
        return _decimal(match[1], match[2], match[3])
    if match := _TIMES.fullmatch(text):
        exponent = match[3] or match[4]
        return _decimal(match[1], match[2] or "1", exponent, scientific=match[2] is not None)
    if match := _FRACTION.fullmatch(text):
        return _ratio(match[1], match[2], match[3] or match[4], match[5] or match[6])
    if match := _SLASH.fullmatch(text):
        return _ratio(match[1], match[2], match[3], match[4])
    if match := _REPEATING.fullmatch(text):
        return _repeating(match[1], match[2], match[3], match[4] or match[5])
    if match := _DOTTED.fullmatch(text):
        return _repeating(match[1], match[2], match[3], match[4] + match[5] + match[6])
    if decimal_comma and (match := _COMMA.fullmatch(text)):
        return _decimal(match[1], f"{match[2]}.{match[3]}", None)
    return None


def _decimal(sign: str, digits: str, exponent: str | None, scientific: bool = False) -> Literal:
    digits = digits.replace(",", "")
    power = Fraction(10) ** int(exponent or 0)
    value = Fraction(digits if not digits.endswith(".") else digits + "0") * power
    places = len(digits.split(".")[1]) if "." in digits else 0
    inexact = places > 0 or exponent is not None or scientific
    return (-value if sign == "-" else value), (power / 10**places if inexact else None)


def _ratio(sign: str, whole: str | None, above: str, below: str) -> tuple[Fraction, None] | None:
    over, under = (int(n.replace(",", "").replace(" ", "").rstrip(".")) for n in (above, below))
    if under == 0 or (whole and (over < 0 or under < 0)):
        return None
    value = Fraction(over, under) + int(whole or 0)
    return (-value if sign == "-" else value), None


def _repeating(sign: str, whole: str, fixed: str, period: str) -> tuple[Fraction, None]:
    value = Fraction(int(whole + fixed), 10 ** len(fixed))
    value += Fraction(int(period), 10 ** len(fixed) * (10 ** len(period) - 1))
    return (-value if sign == "-" else value), None


_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SPELLED = {word: n for n, word in enumerate(_SMALL.split())}
_SPELLED |= {word: 10 * n for n, word in enumerate(_TENS.split(), start=2)}
_MONEY = (
    r"\$|€|£|¥|₹|\\text\s*\{\s*(?:USD|EUR|GBP|CNY|RMB|JPY|INR|Rs\.?)\s*\}|"
    r"(?:USD|EUR|GBP|Rs\.?)\b"
)
_BEFORE = re.compile(rf"([+-]?)\s*({_MONEY})\s*([+-]?)")
_PERCENT = re.compile(
    r"(.*?)\s*(?:%|percent|per cent|\\text\s*\{\s*(?:%|percent|per cent)\s*\})", re.IGNORECASE
)
_BASE = re.compile(
    r"(-?)\(?\s*([0-9A-F]+)\s*\)?\s*(?:_\s*(?:\{\s*(?:\\text\s*\{)?\s*(\w+)\s*\}?\s*\}|(\w+)|"
    r"\\text\s*\{\s*(\w+)\s*\})|\\text\s*\{\s*(?:in )?base[ -](\w+)\s*\}|\s(?:in )?base[ -](\w+))"
)
_LONE = set("mghlLs")  # letters that are units even where no \text and no space tells so


def number(text: str, decimal_comma: bool = False) -> Number | None:
    """A number with its percent sign, currency and unit, or None where there is anything else."""
    text = text.strip()
    if len(text) > _LONGEST:
        return None
    money = ""
    if sign := _BEFORE.match(text):
        money = units.known(re.sub(r"\\text|[\\{}\s]", "", sign[2]).rstrip(".")) or ""
        text = sign[1] + sign[3] + text[sign.end() :].strip()
    if percent := _PERCENT.fullmatch(text):
        read = literal(percent[1], decimal_comma)
        return Number(read[0], True, "", read[1]) if read and not money else None
    if read := literal(text, decimal_comma):
        return Number(read[0], False, money, read[1])
    if base := _BASE.fullmatch(text):
        return _in_base(base[1] + base[2], next(b for b in base.groups()[2:] if b))
    return _measured(text, money)


def _in_base(digits: str, base: str) -> Number | None:
    which = _SPELLED.get(base.lower(), base)
    if not str(which).isdigit() or not 2 <= int(which) <= 36:
        return None
    value = int(digits, 36)  # equal digits, equal value; what they are worth does not matter
    value = int(digits) if digits.lstrip("-").isdigit() else value
    return Number(Fraction(value), False, f"base {which}")


def _measured(text: str, money: str) -> Number | None:
    """A number with words behind it."""
    if text.endswith("$"):
        read = literal(text[:-1])
        return Number(read[0], False, "dollar", read[1]) if read and not money else None
    behind = _literal_before(text)
    if behind is None:
        return None
    (value, last), gap, words = behind
    if spelled := re.match(r"\s*((?:\\text\s*\{)?)\s*\(([A-Za-z -]+)\)\s*(\}?)", words):
        if _spelled(spelled[2]) != value:
            return None
        words = ("" if spelled[3] else spelled[1]) + words[spelled.end() :]
        gap = " "
        if not words:
            return Number(value, False, money, last)
    times = Fraction(1)
    first = re.match(r"\s*(?:\\text\s*\{)?\s*([A-Za-z]+|[万亿千百十])", words)
    named = units.known(_chinese(words)) if first else None
    collective = None
    if first and named is None and (factor := units.factor(first[1])) is not None:
        times = factor
        opened = "\\text{" if "{" in first[0] else ""
        words = opened + words[first.end() :]
        if re.search(r"^(?:\\text\{)?\s*s\b", words):
            return None
        singular = first[1].lower()
        singular = singular if singular in units.COLLECTIVE else singular.rstrip("s")
        collective = value if singular in units.COLLECTIVE else None
    if not _may_be_unit(words, gap):
        return None
    name = units.unit(words) if re.sub(r"\\text|[{}\s.]", "", words) else ""
    if name is None or (money and name and name != money):
        return None
    return Number(value * times, False, name or money, last and last * times, collective)


def _chinese(words: str) -> str:
    run = re.match(r"\s*(?:\\text\s*\{)?\s*([一-鿿]+)", words)
    return run[1] if run else ""


def _literal_before(text: str) -> tuple[Literal, str, str] | None:
    """The literal that a text begins with, the space behind it, and the words after that."""
    for start in re.finditer(r"(?<=[\d}.)])\s*(?=\\text|[A-Za-zΩμµ一-鿿€£¥₹¢(])", text):
        if read := literal(text[: start.start()]):
            return read, start[0], text[start.end() :]
    return None


def _may_be_unit(words: str, gap: str) -> bool:
    """Whether letters behind a number can be a unit: a lone letter without space is a variable."""
    lone = re.fullmatch(r"([A-Za-zΩμµ])(?:\s*\^.*)?", words.strip())
    return not lone or lone[1] in _LONE or bool(gap)


def _spelled(text: str) -> int | None:
    """The value of a whole number in English words, below a million."""
    total = 0
    part = 0
    for word in re.split(r"[\s-]+", text.strip().lower()):
        if word == "and":
            continue
        if word == "hundred":
            part = (part or 1) * 100
        elif word == "thousand":
            total += (part or 1) * 1000
            part = 0
        elif word in _SPELLED:
            part += _SPELLED[word]
        else:
            return None
    return total + part


def close(answer: Number, truth: Number, tolerance: float) -> bool:
    """Whether two numbers are the same. Percentages: 50% is 50% and 0.5; where the truth is 50 or
    50%, the sign may be there or not. Units: either side may leave its unit out.

    tolerance: where the truth is written as a decimal, the answer may round to it, or differ by
        this relative error; 0 means neither.
    """
    if not units.alike(answer.unit, truth.unit):
        return False
    if answer.unit.startswith("base") and not truth.unit:
        return False
    values = {answer.value}
    # of a share (at most 1) a percentage is its hundredth, and nothing else
    if answer.percent and not truth.percent:
        values = {answer.value / 100, *({answer.value} if abs(truth.value) > 1 else ())}
    targets = {truth.value}
    if truth.percent and not answer.percent:
        targets.add(truth.value / 100)
    if truth.collective is not None and answer.collective is None and not answer.unit:
        targets = {truth.collective}  # asked for in dozens
    if values & targets:
        return True
    if not tolerance or truth.last is None:
        return False
    return any(
        abs(v - t) <= max(truth.last / 2, Fraction(tolerance) * abs(t))
        for v in values
        for t in targets
    )
