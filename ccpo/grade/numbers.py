"""Numbers as people write them: exact values of literals, percentages, money, units. Pure rational
arithmetic, no floating point.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Number:
    """A number literal: its exact value, whether it was a percentage (of which `value` is the
    number before the sign), its unit ("": none), and the unit of its last decimal (None where it
    was written as an exact number).
    """

    value: Fraction
    percent: bool = False
    unit: str = ""
    last: Fraction | None = None


_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_DIGITS}\.\d*|\.\d+|{_DIGITS})"
_PLAIN = re.compile(rf"([+-]?)\s*({_DECIMAL})(?:[eE]([+-]?\d{{1,3}}))?")
_TIMES = re.compile(
    rf"([+-]?)\s*(?:({_DECIMAL})\s*(?:\\times|\\cdot|\*|x|X)\s*)?10\s*\^\s*(?:\{{\s*([+-]?\d{{1,3}})\s*\}}|([+-]?\d{{1,3}}))"
)
_GROUP = r"(?:\{\s*([+-]?\d+)\s*\}|\s*(\d))"
_FRACTION = re.compile(rf"([+-]?)\s*(?:(\d+)\s*)?\\frac\s*{_GROUP}\s*{_GROUP}")
_SLASH = re.compile(rf"([+-]?)\s*(?:(\d+)\s+)?({_DIGITS}|\d+\.)\s*/\s*({_DIGITS})")
_WORDS = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


def literal(text: str) -> tuple[Fraction, Fraction | None] | None:
    """Value of a bare number literal and the unit of its last decimal (None: exact), or None.

    Read are integers with or without thousands commas, decimals, 4.5e33, 4.5\\times10^{33}, 3/4,
    \\frac34, 1 3/4.
    """
    text = text.strip()
    if found := _PLAIN.fullmatch(text):
        return _decimal(found[1], found[2], found[3])
    if found := _TIMES.fullmatch(text):
        return _decimal(
            found[1], found[2] or "1", found[3] or found[4], scientific=found[2] is not None
        )
    if found := _FRACTION.fullmatch(text):
        return _ratio(found[1], found[2], found[3] or found[4], found[5] or found[6])
    if found := _SLASH.fullmatch(text):
        return _ratio(found[1], found[2], found[3], found[4])
    return None


def _decimal(
    sign: str, digits: str, exponent: str | None, scientific: bool = False
) -> tuple[Fraction, Fraction | None]:
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


# What a unit is called, by its canonical name; a unit of an area or a volume has its power behind
# it.
_UNITS = {
    name: canonical
    for canonical, names in {
        "degree": "degree degrees deg",
        "radian": "radian radians rad",
        "mm": "mm millimeter millimeters millimetre millimetres",
        "cm": "cm centimeter centimeters centimetre centimetres",
        "m": "m meter meters metre metres 米",
        "km": "km kilometer kilometers kilometre kilometres 千米 公里",
        "inch": "inch inches in",
        "foot": "foot feet ft",
        "yard": "yard yards yd",
        "mile": "mile miles mi",
        "g": "g gram grams 克",
        "kg": "kg kilogram kilograms 千克 公斤",
        "ton": "ton tons tonne tonnes 吨",
        "pound": "pound pounds lb lbs",
        "ounce": "ounce ounces oz",
        "s": "s sec secs second seconds 秒",
        "minute": "min mins minute minutes 分钟",
        "hour": "h hr hrs hour hours 小时",
        "day": "day days 天",
        "week": "week weeks",
        "month": "month months",
        "year": "year years 年",
        "liter": "l liter liters litre litres 升",
        "ml": "ml milliliter milliliters",
        "gallon": "gallon gallons",
        "mph": "mph",
        "dollar": "dollar dollars usd",
        "cent": "cent cents",
        "yuan": "yuan 元",
    }.items()
    for name in names.split()
}
_UNIT = re.compile(
    r"(?:(?:sq|square|cubic|cu)\b\.?\s*)?[A-Za-z\u4e00-\u9fff]+(?:(?:\s|/|-)+[A-Za-z\u4e00-\u9fff]+)*\.?\s*(?:\^\s*\{?\s*[23]\s*\}?)?"
)
_NO_UNIT = {
    "or",
    "and",
    "to",
    "not",
    "between",
    "about",
    "approximately",
    "am",
    "pm",
    "over",
    "plus",
    "minus",
    "times",
    "e",
    "i",
    "pi",
    "x",
    "y",
    "n",
    "k",
}


def unit(words: str) -> str | None:
    """Canonical name of a unit ("" for words that measure nothing, as in "12 students"), or None
    where the words may change the number.
    """
    text = words.strip().lower().rstrip(".")
    if not _UNIT.fullmatch(text):
        return None
    power = next((d for d in "23" if re.search(rf"\^\s*\{{?\s*{d}\s*\}}?$", text)), "")
    text = re.sub(r"\^\s*\{?\s*[23]\s*\}?$", "", text).strip()
    parts = re.split(r"[\s/-]+", text)
    if parts[0] in ("sq", "square", "sq.", "cubic", "cu"):
        power = "3" if parts[0] in ("cubic", "cu") else "2"
        parts = parts[1:]
    if not parts or any(p in _NO_UNIT or p in _WORDS for p in parts):
        return None
    known = [_UNITS.get(p) for p in parts]
    if len(parts) == 1:
        single = known[0]
        return (
            None
            if single is None and len(parts[0]) == 1 and parts[0].isascii()
            else (single or "") + (power if single else "")
        )
    rate = (
        [k for k in known if k]
        if all(known[i] or parts[i] in ("per", "an", "a") for i in range(len(parts)))
        else []
    )
    return "/".join(rate) if len(rate) > 1 else (rate[0] + power if rate else "")


def number(text: str) -> Number | None:
    """A number with its percent sign, currency and unit, or None where there is anything else."""
    text = text.strip()
    sign = re.match(r"([+-]?)\s*\$\s*([+-]?)", text)
    money = bool(sign and "$" in sign[0])
    if sign and money:
        text = sign[1] + sign[2] + text[sign.end() :].strip()
    percent = re.fullmatch(
        r"(.*?)\s*(?:%|percent|per cent|\\text\s*\{\s*(?:%|percent)\s*\})", text, re.IGNORECASE
    )
    if percent:
        found = literal(percent[1])
        return Number(found[0], True, "", found[1]) if found else None
    if found := literal(text):
        return Number(found[0], False, "dollar" if money else "", found[1])
    base = re.fullmatch(r"(\d+)\s*_\s*(?:\{\s*(?:\\text\s*\{)?\s*(\w+)\s*\}?\s*\}|(\w+))", text)
    if base:
        return Number(Fraction(int(base[1])), False, f"base {base[2] or base[3]}")
    split = re.fullmatch(
        r"(.*[\d}.])\s*(?:\\text\s*\{\s*([^{}]*?)\s*\}(\s*\^\s*\{?\s*[23]\s*\}?)?|([A-Za-z\u4e00-\u9fff][^\\{}$]*|[A-Za-z]+\s*\^\s*\{\s*[23]\s*\}))",
        text,
    )
    if not split:
        return None
    head = split[1].strip()
    words = (split[2] + (split[3] or "") if split[2] is not None else split[4]).strip()
    first = re.split(r"\s+", words.lower(), maxsplit=1)
    factor = _WORDS.get(first[0], 1)
    words = (first[1] if len(first) > 1 else "") if factor > 1 else words
    found = literal(head)
    name = unit(words) if words else ""
    if found is None or name is None:
        return None
    return Number(
        found[0] * factor,
        False,
        name or ("dollar" if money else ""),
        found[1] and found[1] * factor,
    )


def close(answer: Number, truth: Number, tolerance: float) -> bool:
    """Whether two numbers are the same. Percentages: 50% is 50% and 0.5; where the truth is 50 or
    50%, the sign may be there or not.

    tolerance: where the truth is written as a decimal, the answer may round to it, or differ by
        this relative error; 0 means neither.
    """
    if answer.unit and truth.unit and answer.unit != truth.unit:
        return False
    if answer.unit.startswith("base") and not truth.unit:
        return False
    values = {answer.value}
    if (
        answer.percent and not truth.percent
    ):  # of a share (at most 1) a percentage is its hundredth, and nothing else
        values = {answer.value / 100, *({answer.value} if abs(truth.value) > 1 else ())}
    targets = {truth.value}
    if truth.percent and not answer.percent:
        targets.add(truth.value / 100)
    if values & targets:
        return True
    if not tolerance or truth.last is None:
        return False
    return any(
        abs(v - t) <= max(truth.last / 2, Fraction(tolerance) * abs(t))
        for v in values
        for t in targets
    )
