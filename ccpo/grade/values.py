"""What of an answer is its value: the names before it ("m+n = 293", "|AB| = 4"), the words and the
unit behind it, and what may be read as algebra at all.
"""

from __future__ import annotations

import math
import re

from ccpo.grade.typeset import split
from ccpo.grade.units import unit

_PROSE = re.compile(
    r"(?<![\\A-Za-z])(?:the|is|are|and|or|not|but|if|then|answer|so|of|for|with|undefined|none|no|all|"
    r"any|wrong|either|maybe|[A-Za-z]{5,})(?![A-Za-z])",
    re.IGNORECASE,
)
_FUNCTIONS = re.compile(
    r"(?<![A-Za-z])(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|exp|sqrt|frac|lim|max|min|gcd|lcm|infty|"
    r"alpha|beta|gamma|theta|lambda|omega|sigma|delta"
)
_NOTES = re.compile(r"\\text\s*\{\s*(?:[a-zA-Z]|red|max|min|eff|tot|in|out|deg(?:rees)?)\s*\}")


def prose(text: str) -> bool:
    """Whether an answer has words in it, so that no algebra may be read out of it."""
    text = re.sub(r"\\(?:begin|end)\s*\{[a-z]+\}", " ", text)
    plain = re.sub(
        r"\\[A-Za-z]+", lambda m: m[0] if m[0] == "\\text" else " ", _NOTES.sub("", text)
    )
    return (
        bool(_PROSE.search(_FUNCTIONS.sub(" ", plain.replace("\\text", " ")))) or "\\text" in plain
    )


_ONE = re.compile(r"(?<![\d.\w}])1\s*\^\s*(?:\{\s*-?\d+\s*\}|\d+)")
_MONSTROUS = re.compile(
    r"\^\s*(?:\{[^{}]*\^|\w\s*\^)|\^\s*\{?\s*-?\d{5,}|\^\s*\{?\s*\w*\s*\}?\s*!|\d{4,}\s*!|\)\s*!|\}\s*!"
    r"|!\s*!|\d{1000,}|\\binom\s*\{\s*\d{5,}|\d{5,}\s*\\choose|\\Gamma\s*\(\s*\d{4,}"
)


def worked_ones(text: str) -> str:
    """Powers of 1 written as 1."""
    return _ONE.sub("1", text)


_MOST_DIGITS = 10**6  # that powers of powers may need, roughly
_POWER_OF_POWER = re.compile(r"[)}!\]]\s*\^\s*\{?\s*-?(\d+)")
_POWER = re.compile(r"(?<![)}!\]\s])\s*\^\s*\{?\s*-?(\d+)")
_FACTORIAL = re.compile(r"(\d+)\s*!")


def monstrous(text: str) -> bool:
    """A tower of powers or a huge power or factorial, which algebra would try to write out."""
    text = worked_ones(text)
    if _MONSTROUS.search(text):
        return True
    digits = [int(n) for n in _POWER.findall(text)] + [4 * int(n) for n in _FACTORIAL.findall(text)]
    outer = math.prod(int(n) for n in _POWER_OF_POWER.findall(text))
    return outer * max([*digits, 1]) > _MOST_DIGITS


def unworked(text: str) -> bool:
    """Nothing that algebra could make a number of, or a sum or product nobody worked out: "7-1+9"
    is the question, not the answer.
    """
    text = re.sub(r"\\(?:times|cdot|div)(?![A-Za-z])", "*", text)
    if not re.search(r"[\\^(|!]", text) and text.strip() not in ("i", "e"):
        return True
    return not re.search(r"[A-Za-z\\]", text) and bool(
        re.search(r"[\d)]\s*[-+*/:]\s*[-+(]*\s*[\d.]", text)
    )


_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")


def without_unit(text: str) -> tuple[str, str]:
    """An expression without the unit behind it, and the unit."""
    cut = re.fullmatch(
        r"(.*?[\d}A-Za-z)])\s*((?:\\text\s*\{[^{}]*\}(?:\s*\^\s*\{?\s*-?\d\s*\}?|\s|/|\\cdot)*)+)",
        text,
    )
    name = unit(cut[2]) if cut else None
    if name == "degree" and cut and _TRIGONOMETRY.search(cut[1]):
        return text, ""  # of the angle inside
    return (cut[1], name) if cut and name is not None else (text, "")


INDEX = r"(?:_\s*(?:\{[^{}]*\}|\w))?"
_SIMPLE_NAME = re.compile(
    rf"\s*(?:\\text\{{[^{{}}]*\}}|\\?[A-Za-z]+){INDEX}(?:\^\s*(?:\{{-1\}}))?'*{INDEX}"
    rf"\s*(?:\([^()]*\))?\s*"
    r"|\s*\\frac\s*\{\s*d[^{}]*\}\s*\{\s*d[^{}]*\}\s*"
)
_CONSTANT = re.compile(r"\s*(?:[ei]|\\pi|\\infty)\s*")
_LETTERED_SUM = re.compile(r"\s*\d*\s*([A-Za-z])(?:\s*[-+]\s*\d*\s*([A-Za-z]))+\s*")
_DENIAL = re.compile(r"\b(?:not|no|or|if|than|least|most|isn't|never|wrong)\b", re.IGNORECASE)


def is_name(text: str, numeric: bool) -> bool:
    """Whether a side of a chain only names what follows. numeric: the truth has no letters, so that
    sums, ratios and powers of letters are names too ("m+n", "|AB|", "x^2+y^2").
    """
    if _CONSTANT.fullmatch(text) or _DENIAL.search(text) or not re.search(r"[A-Za-z]", text):
        return False
    if not (has_letters(text) or "\\text" in text):
        return False  # of constants alone, as \\sin\\pi
    if not numeric:
        return bool(_SIMPLE_NAME.fullmatch(text)) or text.strip().startswith("\\text{")
    plain = re.sub(r"[_^]\s*(?:\{[^{}]*\}|\w)|\([^()]*\)|\[[^\[\]]*\]|\\frac|[{}]", " ", text)
    if _LETTERED_SUM.fullmatch(text):
        return len(set(re.findall(r"[A-Za-z]", text))) > 1
    return not re.search(r"\d", plain) and not re.search(r"[,;<>]|\\(?:le|ge|ne|in)\b", plain)


def has_letters(text: str) -> bool:
    text = re.sub(r"\\text\s*\{[^{}]*\}", "", text)
    text = re.sub(
        r"\\(?:frac|sqrt|pi|cdot|times|log|ln|sin|cos|tan|arc\w+|binom)(?![A-Za-z])", "", text
    )
    return bool(re.search(r"[A-Za-z]", re.sub(r"(?<![A-Za-z])[ei](?![A-Za-z])", "", text)))


def members(text: str) -> list[str]:
    """The sides of a chain of equations."""
    return [side for side in split(text, "=") if side]
