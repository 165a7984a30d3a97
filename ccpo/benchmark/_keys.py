"""What the key of a mathematics item says together with its question: its kind, whether the order
of a list counts and how often, the unit that is asked for, and the options that are listed.
"""

from __future__ import annotations

import re

from ccpo.grade import answers, units
from ccpo.grade.lists import parts_of
from ccpo.grade.numbers import literal, number
from ccpo.grade.typeset import split, squeeze, tidy

_DIGITS = r"(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)"
_PLAIN = re.compile(
    rf"[-+]?\$?\s*(?:{_DIGITS}\.?\d*|\.\d+)(?:e[-+]?\d+)?"
    r"(?:\s*\\?%|\s*\^?\{?\\circ\}?|\s*\\(?:text|mbox|mathrm)\s*\{[^{}]*\}(?:\^\{?\d\}?)?)?"
    r"|[-+]?\d*\s*\\[dt]?frac\s*(?:\{[-\d]+\}|\d)\s*(?:\{[-\d]+\}|\d)(?:\s*\\text\s*\{[^{}]*\})?"
    r"|[-+]?\d+\.?/\d+|\d+_\{?\d+\}?"
)
_LIST = re.compile(r",|\\pm|\b(?:or|and)\b|\\text\s*\{\s*,?\s*(?:or|and)\s*\}")
_ASKS_INTERVAL = re.compile(
    r"interval|inequalit|range of|domain|values of|solution set|for (?:what|which)|solve|"
    r"find all|compute all|possible values",
    re.IGNORECASE,
)
_ASKS_POINT = re.compile(
    r"point|ordered|coordinate|vertex|vertices|cent(?:er|re)\b|polar|spherical|cylindrical|"
    r"triple|\bpairs?\b|\([a-z],\s*[a-z]\)|\(\\rho|\(r,|vector|foc(?:us|i)\b",
    re.IGNORECASE,
)
_ORDER = re.compile(
    r"\b(?:increasing|decreasing|ascending|descending|alphabetical)\s+order|"
    r"from\s+(?:the\s+)?(?:greatest|least|smallest|largest|lowest|highest)\b[^.?]*\bto\b|"
    r"\b(?:least|smallest|lowest)\s+to\s+(?:the\s+)?(?:greatest|largest|highest)|"
    r"\b(?:greatest|largest|highest)\s+to\s+(?:the\s+)?(?:least|smallest|lowest)|\brespectively\b|"
    r"从小到大|从大到小|依次|分别",
    re.IGNORECASE,
)
_INSTRUCTS = re.compile(
    r"\b(?:list|put|express|enter|give|write|arrange|separate|answer|rank|find|what|sort)\b|[请将按?？]",
    re.IGNORECASE,
)
_ASKS = re.compile(r"(?:^|[.?!]\s+|\n)\s*(?:Find|Express|Compute|Determine|Calculate|Evaluate)\b")
_ASKS_ALL = re.compile(
    r"possible|\ball\b|solutions|\broots\b|separated by|in any order|either order|\bcommas\b",
    re.IGNORECASE,
)
_TEXT = re.compile(
    r"\\text\s*\{[^{}]*\}|[A-Za-z]{3,}(?: [A-Za-z]+)*|\d+:\d+ ?[ap]\.?m\.?|\d+ ?[ap]\.?m\.?"
)
_LETTERS = re.compile(r"(?:\\text\s*\{\s*)?[A-K](?:\s*,\s*[A-K])+\s*\}?")


def _untypeset(truth: str) -> str:
    return re.sub(r"\\(?:left|right|,|;|:)|\s*\\!\s*", "", truth).strip().strip("$").strip()


def kind_of(truth: str, question: str = "") -> str:
    """Which kind of answer a truth is, by its form, and by its question where the form leaves it
    open: (a, b) is an interval where the question speaks of one, else a point; a list is a set, a
    multiset where a member stands twice or multiplicity is asked for, a tuple where its order is.
    """
    text = _untypeset(truth)
    if re.fullmatch(r"\(?[A-K]\)?|\\text\s*\{\s*\(?[A-K]\)?\s*\}", text):
        return "choice"
    if _LETTERS.fullmatch(text) or _two_answers(truth, question):
        return _list_kind(text, question)
    if _PLAIN.fullmatch(text) or _PLAIN.fullmatch(text.replace("\\$", "")):
        return "number"
    words = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)
    if re.fullmatch(r"\\text\s*\{\s*[-+.\d]+\s*\}", text):
        return "number"
    if _TEXT.fullmatch(text) and not re.search(r"\d{3}", words):
        return "text"
    return _bracketed_kind(text, question) or _formula_kind(text, question)


def _bracketed_kind(text: str, question: str) -> str:
    """The kind of what begins with a bracket, "" where it does not."""
    interval_signs = re.search(r"\\(?:cup|infty|setminus)(?![A-Za-z])|\\ne(?:q)?(?![A-Za-z])", text)
    if re.match(r"\\\{", text) and not interval_signs:
        return "interval" if re.search(r"(?:\||\\mid).*(?:<|>|\\le|\\ge)", text) else "set"
    if interval_signs or re.match(r"[A-Za-z]\s*\\in|\[", text) or re.fullmatch(r"\(.*\]", text):
        return "interval"
    if re.match(r"\\begin\s*\{[pbv]matrix\}", text):
        return "tuple"
    if re.fullmatch(r"\([^()]*(?:\([^()]*\)[^()]*)*,.*\)", text):
        return "interval" if _may_be_interval(text, question) else "tuple"
    return ""


def _may_be_interval(text: str, question: str) -> bool:
    ends = split(tidy(text)[1:-1], ",")
    values = [literal(end) for end in ends]
    if len(ends) != 2 or (values[0] and values[1] and values[0][0] >= values[1][0]):
        return False
    if "interval" in question:
        return "ordered pair" not in question
    return bool(_ASKS_INTERVAL.search(question)) and not _ASKS_POINT.search(question)


def _formula_kind(text: str, question: str) -> str:
    """The kind of what has no brackets around it."""
    if re.search(r"(?<!\\)(?<![<>])=", text) and not _LIST.search(re.sub(r"\{[^{}]*\}", "", text)):
        return "equation"
    if re.search(r"[<>]|\\le|\\ge", re.sub(r"\\left|\\right|\\leng", "", text)):
        letters = re.sub(r"\\[a-z]+|\([a-z]\)", "", text)
        return "interval" if len(re.findall(r"[A-Za-z]", letters)) == 1 else "text"
    listed = re.sub(r"[1-9]\d{0,2}(?:,\d{3})+|\{[^{}]*\}", "", text)
    if _LIST.search(listed) or _LIST.search(re.sub(r"\\frac|\{[^{}]*\}", "", text)):
        return _list_kind(text, question)
    return "expression"


def _list_kind(text: str, question: str) -> str:
    members = [squeeze(part) for part in parts_of(tidy(text), thousands=False)]
    if len(set(members)) < len(members) or "multiplicit" in question:
        return "multiset"
    return "tuple" if _ordered(question) or _asks(question) == len(members) > 1 else "set"


def _ordered(question: str) -> bool:
    """Whether a question asks for a list in an order that it names."""
    sentences = re.split(r"(?<=[.?!。？])\s+", question)
    return any(_ORDER.search(s) and _INSTRUCTS.search(s) for s in sentences)


def _asks(question: str) -> int:
    """How many things a question asks for, one after the other; 0: all that fit something."""
    if _ASKS_ALL.search(question):
        return 0
    return len(re.findall(r"[?？]", question)) + len(_ASKS.findall(question))


def _two_answers(truth: str, question: str) -> bool:
    """Whether "48,384" is two answers to two questions, and no number with thousands."""
    plain = re.fullmatch(r"\$?\d{1,3},\d{3}\$?", truth.strip())
    return bool(plain) and _asks(question) == 2


# ---- what the question adds -------------------------------------------------------------------

_NOT_ALONE = re.compile(
    r"\bper\b|\beach\b|\bevery\b|\b(?:an?|the)\s+average|average|speed|\brate\b|每|平均|square of",
    re.IGNORECASE,
)
_AMBIGUOUS = {"unit", "am", "pm", "gray", "bar", "stone", "knot", "mole"}  # "how many gray wolves"
_HOW_MANY = re.compile(
    r"\bhow many\s+(?:more\s+|total\s+|fewer\s+|additional\s+)?((?:square |cubic )?[A-Za-z]+)"
    r"|\bin\s+((?:square |cubic )?[a-z]+)(?=\s*[,.?)]|$)"
    r"|\bnumber of\s+((?:square |cubic )?[a-z]+)\s+(?:in|that|of|it|he|she|they)\b",
    re.IGNORECASE,
)
_DUO_SHAO = re.compile(
    r"(?:多少|几)\s*((?:平方|立方)?(?:千米|公里|厘米|毫米|分米|米|千克|公斤|克|吨|毫升|升|公顷|小时|"
    r"分钟|秒|天|年|元|角))(?!人|级|龄|代)"
)
_COLLECTIVE = re.compile(r"\bhow many\s+(dozens?|pairs?)\b", re.IGNORECASE)


def asked_unit(question: str) -> str:
    """The unit that a question asks its number in, as written there; "" where it names none, or
    where it may be part of a rate.
    """
    last = [s for s in re.split(r"(?<=[.?!。？！])\s*", question) if re.search(r"[?？]", s)]
    text = last[-1] if last else question
    if len(last) > 1 or _NOT_ALONE.search(text):
        return ""
    if collective := _COLLECTIVE.search(text):
        return collective[1]
    if chinese := _DUO_SHAO.findall(text):
        return chinese[-1] if len(set(chinese)) == 1 else ""
    named = ["".join(groups) for groups in _HOW_MANY.findall(text)]
    read = [(name, units.unit(name)) for name in named if len(name) > 2]
    asked = [name for name, unit in read if unit and unit not in _AMBIGUOUS]
    return asked[0] if len({units.unit(name) for name in asked}) == 1 else ""


_LABEL = re.compile(
    r"(?:\\(?:text|textbf|textrm|mathrm|mathbf|rm|bf)\s*\{?\s*)?\(\s*([A-K])\s*\)(?:\\?\s*\}|\\?)?"
)


def options(question: str) -> dict[str, str]:
    """The options that a question lists, by their letters; none where it lists none."""
    labels = list(_LABEL.finditer(question))
    letters = "".join(label[1] for label in labels)
    start = max(letters.rfind("ABC"), letters.rfind("FGH"))
    if start < 0:
        return {}
    labels = labels[start:]
    known = "ABCDEFGHIJK" if labels[0][1] == "A" else "FGHJK"
    if "".join(label[1] for label in labels) != known[: len(labels)]:
        return {}
    ends = [label.start() for label in labels[1:]] + [len(question)]
    out = {}
    for label, end in zip(labels, ends, strict=True):
        text = re.split(r"\n\n|\b(?:Enter|Express|Answer)\b|\[asy\]", question[label.end() : end])[
            0
        ]
        text = re.sub(r"\\(?:qquad|quad|hspace\{[^{}]*\}|newline)(?![A-Za-z])|\\\\", " ", text)
        out[label[1]] = text.strip(" \t\n,;.$~\\")
    return out


def key(truth: str, question: str) -> tuple[str, str]:
    """The truth as an item's table has it, and its kind. Added are the unit that the question asks
    for ("12 \\text{ hours}") and the letter of the option that the truth is ("(B) 12"), or the
    option of its letter.
    """
    kind = kind_of(truth, question)
    if _two_answers(truth, question):
        truth = truth.replace(",", ", ")
    listed = options(question)
    if kind == "choice":
        letter = re.sub(r"\\text|[^A-K]", "", truth)
        return (f"({letter}) {listed[letter]}" if listed.get(letter) else truth), kind
    if listed and kind != "text":
        fits = [letter for letter, text in listed.items() if _is(text, truth, kind)]
        return (f"({fits[0]}) {truth}" if len(fits) == 1 else truth), kind
    return with_unit(truth, question) if kind == "number" else truth, kind


def with_unit(truth: str, question: str) -> str:
    """A number with the unit that its question asks for, where it is a bare one."""
    read = number(tidy(truth))
    unit = asked_unit(question) if read and not read.unit and not read.percent else ""
    return f"{truth.strip('$')} \\text{{ {unit}}}" if unit else truth


def _is(option: str, truth: str, kind: str) -> bool:
    try:
        return bool(option) and answers.same(option, truth, kind, leaf=answers.undecided)
    except answers.Undecided:
        return False
