"""The letter of a choice: which one of several options an answer names, if it names one and no
other, and denies it not.
"""

from __future__ import annotations

import re

from ccpo.grade.typeset import tidy, untexted

_LEAD = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+|right\s+|best\s+|final\s+)?(?:option|choice|answer|letter|选项?|答案)"
    r"(?:\s+(?:is|are))?\s*[:：是为]?\s*)+",
    re.IGNORECASE,
)
# A letter with what marks it as one: brackets, a full stop, a colon.
_ALONE = re.compile(r"\(?[A-Za-z]\)?")
_FIRST = re.compile(r"[(\[]?\s*([A-Za-z])(\s*[)\]]\s*[.:,;]?|[.:,;]?)")
_LABEL = re.compile(r"(?<![A-Za-z\\])(?:[(\[][A-K][)\]]|[A-K][.:)](?=\s|$|[A-Z(\[]))")
# Another letter right behind: after a mark or a word that joins, or alone at the end.
_OTHER = re.compile(
    r"\s*(?:(?:[,;/&|+、]|\b(?:or|and|nor|to)\b|-|或|和)\s*)+"
    r"[(\[]?[A-Ka-k][)\].:,;?!]*(?=$|[\s,;/&|(\[+.])"
    r"|\s*[(\[]?[A-K][)\].]*\s*$"
)
_JOINED = re.compile(r"\s*(?:[,;]?\s*(?:or|and|nor)\b|[/&|+]|或|和)", re.IGNORECASE)
_DENIED = re.compile(
    r"\s*[,:;]?\s*(?:(?:is|are|was|would be|seems?|option)\s+)?(?:definitely\s+|clearly\s+)?"
    r"(?:wrong|incorrect|false|not\b|isn'?t|no\b|eliminated|ruled out|impossible|"
    r"invalid|错|不)|\s*\?",
    re.IGNORECASE,
)
# "A, not B": the letters that are denied are another's
_INSTEAD = re.compile(
    r"(?<=[A-Ka-k)\]])\s*[,;，(]?\s*(?:(?:and|but)\s+)?"
    r"(?:not|rather than|instead of|而?不是|而?不选)\s*(?:option\s+|choice\s+)?"
    r"[(\[]?[A-K](?![A-Za-z])[)\]]?(?:(?:\s*(?:,|/|\bor\b|\band\b)\s*)+[(\[]?[A-K](?![A-Za-z])[)\]]?)*\)?"
)
_WHY = re.compile(r"\s*[,;，]?\s*(?:\b(?:because|since)\b|因为).*", re.DOTALL)
_REASON = re.compile(
    r"\s*(?:because|since|as|due|for|which|where|given|while|so|but|[-—–]+|\()(?![A-Za-z])"
    r"|\s*,?\s*(?:is|was)\s+(?:the\s+)?(?:correct|right|best|true|answer)",
    re.IGNORECASE,
)


def letter(text: str) -> str | None:
    """The letter of a choice: "B", "(B)", "\\text{(B)}", "B. Paris", "option b", "C because ...";
    None: it is not one choice. Several letters and a denied one are none.
    """
    if _ALONE.fullmatch(text.strip()):
        return text.strip().strip("()").upper()
    text = re.sub(r"[$\"“”'`]|\\ ", " ", untexted(tidy(text))).replace("**", "").strip()
    text = _INSTEAD.sub("", _WHY.sub("", text), count=1)
    lead = _LEAD.match(text)
    labelled = bool(lead)
    text = text[lead.end() :] if lead else text
    text = text.strip().strip("*").strip()
    first = _FIRST.match(text)
    if not first:
        return None
    rest = text[first.end() :]
    if not rest.strip(" .*"):
        return first[1].upper()
    marked = bool(re.search(r"[)\].:]", first[2])) or text.startswith(("(", "["))
    if re.match(r"[A-Za-z0-9_^]", rest) and not first[2]:
        return None
    if _JOINED.match(rest) or _DENIED.match(rest) or _OTHER.match(rest) or _LABEL.search(rest):
        return None
    if re.search(r"\bor\s*$|^\s*[,;]?\s*or\b", rest):
        return None
    if marked or labelled or _REASON.match(rest) or first[2].strip() == ",":
        return first[1].upper() if first[2].strip() != "," or _REASON.match(rest) else None
    maths = first[1].upper() not in "AI" and re.match(r"\s+[\d\\]", rest)
    return first[1].upper() if maths else None


def label(text: str) -> tuple[str, str] | None:
    """The letter that an answer begins with and what follows, as in "(B) 12", "B", "option (B)";
    None: it begins with none.
    """
    text = untexted(text).strip()
    lead = _LEAD.match(text)
    text = text[lead.end() :] if lead else text
    match = re.fullmatch(r"\(\s*([A-K])\s*\)\s*(.*)|([A-K])(?:[.:)]\s*(.*))?", text, re.DOTALL)
    return (match[1] or match[3], match[2] or match[4] or "") if match else None


def option(truth: str) -> str:
    """What the option says that a truth like "(C) 12" names, "" where it gives the letter alone."""
    named = re.fullmatch(r"\(([A-K])\)\s+(\S.*)", truth.strip(), re.DOTALL)
    return named[2] if named else ""
