"""What a message answers. Thinking is no part of an answer. Of what is left: what <answer> tags
hold; in it the last box that holds anything; else what is stated last ("#### 7", "the answer is 7",
"故选B"); else the whole message, if it is nothing but an answer.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection

from ccpo.grade import choices, thinking, units
from ccpo.grade.boxes import Box, boxes
from ccpo.grade.lists import items
from ccpo.grade.sandbox import programs
from ccpo.grade.typeset import tidy, untexted
from ccpo.grade.values import prose

LONGEST = 300  # characters of an answer; longer ones are no answer
_CLAUSE = 2000  # characters behind a mark that may hold one
_BOXES = 60  # the last ones of a message are looked into
_LISTS = ("set", "multiset", "tuple")

_TAG = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.IGNORECASE | re.DOTALL)

# ---- marks of a stated answer -----------------------------------------------------------------

_EMPHASIS = r"(?:\*\*|__|\*)?"
_MARK = re.compile(
    rf"{_EMPHASIS}(?:####(?!#)"
    rf"|\b(?:answers?|option|choice){_EMPHASIS}\s*(?:(?:is|are|would be|must be|should be|will be)"
    rf"(?![A-Za-z]){_EMPHASIS}\s*[:：]?|[:：=]{_EMPHASIS})"
    rf"|答案(?:应该|应当|就)?(?:是|为|选|：|:)+(?:选项?)?"
    rf"|(?:故|应|所以|因此|正确的?)?(?<!不)(?<!不能)(?<!不应)选(?:择|项)?(?:是|为)?[:：]?(?=\s*[(（]?\s*[A-Za-z]\b)"
    rf"|^[#*_ \t]*(?:the +)?(?:final +)?answer[*_ \t]*$)",
    re.IGNORECASE | re.MULTILINE,
)
_CORRECT = re.compile(
    r"(?:\b(?:option|choice|answer)\s+)?[(\[]?\b([A-K])\b[)\]]?\s+is\s+(?:the\s+)?"
    r"(?:correct|right|best|true)\b(?!\s+(?:if|when|only))",
)
_ADVERB = re.compile(
    r"(?:[\s,:：]|\*\*|(?:therefore|thus|hence|then|simply|indeed|clearly|obviously|exactly|"
    r"equal to|given by|found to be|as follows|just|also|now|still|option|choice|"
    r"letter)\b(?!\s*[:=])"
    r"|(?:the\s+)?number\s+(?=\d))+",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    r"(?:(?<!\bsq)(?<!\bcu)(?<!\b[apAP]\.m)(?<!\b[apAP])(?<!\\)[.!?](?:\s|\*|$)|[。！？]).*",
    re.DOTALL,
)
_REASON = re.compile(
    r"(?:\s*[,;(—–]|\s-|\s)\s*(?:because|since|as\s+(?!many)|so\s+that|which|where|when|given|due\s+to|"
    r"hence|thus|therefore|i\.e\.|obtained|by\s+the|for\s+(?:the|a|all|which)|not)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_HEDGE = re.compile(
    r"\b(?:maybe|perhaps|possibly|could|might|either|unless|unsure|not sure|approximately|about|"
    r"around|roughly|between|at least|at most)\b",
    re.IGNORECASE,
)
_AFTERTHOUGHT = re.compile(
    r",\s*(?!and\b|or\b|but\b)(?:[A-Za-z]{2,}|I\b)[^\d,=\\\])}]*$", re.DOTALL
)
_ASIDE = re.compile(
    r";\s*(?!(?:and|or|but|no|not|wait|maybe|actually|rather|sorry|correction|alternatively|else|"
    r"possibly|perhaps|if|unless|otherwise)\b)[A-Za-z]{2,}.*",
    re.DOTALL | re.IGNORECASE,
)
_CONFIRMED = re.compile(
    r"\s*(?:indeed\s+)?(?:correct|right|verified|confirmed|reasonable|consistent|sensible|unique|found)\b",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"[\s$)}\]*,.]*(?:is|was|would be|seems|looks)\s+(?:\w+\s+)?"
    r"(?:not\b|wrong|incorrect|false|too\b)",
    re.IGNORECASE,
)
# Behind an answer: it is taken back.
_RETRACTED = re.compile(
    r"[\s.,;:!*$)\]}]*(?:wait|no|actually|oops|hmm+|sorry|correction|hold on)\b[^\n]{0,80}?"
    r"\b(?:should(?: have)? be(?:en)?|must be|wrong|incorrect|mistake|not right|it's|it is)\b",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(r"[.!]" + _RETRACTED.pattern, re.IGNORECASE)
# Before "B is correct": another letter, or a denial.
_JOINED = re.compile(
    r"(?:\b(?-i:[A-K])\)?\s*(?:and|or|nor|&|/)|\b(?:neither|either|not|if|whether|nor|or))"
    r"\s*(?:option\s+|choice\s+)?[(\[]?$",
    re.IGNORECASE,
)
# Between two boxes: another choice, a change of mind, a conclusion.
_OR = re.compile(r"[\s$,.;*]*(?:\\text\s*\{\s*)?(?:or|/|\|)(?:\s*\})?[\s$*]*", re.IGNORECASE)
_BEHIND = re.compile(
    r"[\s$*]*(?:\\[,;:! ]\s*)*"
    r"(?:(\\?%)|\\(?:text|mathrm|textrm)\s*\{\s*([^{}]*?)\s*\}(\^\{?-?\d\}?)?|([A-Za-z]+)\b)"
)
_TURN = re.compile(
    r"\b(?:no|not|wait|actually|wrong|incorrect|instead|sorry|mistake|check|correction|correct|hmm|"
    r"let me|so|thus|therefore|hence|final|finally|answer|conclusion|conclude|combin\w+|together|"
    r"overall|but)\b",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"(?:the\s+)?(?:final\s+)?(?:answer|result|solution)?[\s:.,;!?$\\*]*", re.IGNORECASE
)


def extract(text: str, kind: str = "number", wanted: Collection[str] = ()) -> str | None:
    """The answer a message gives, or None; of code the program (`wanted`: names its tests call)."""
    if kind != "code" and len(text) <= KEPT:
        return _kept(text, kind)
    return _extracted(text, kind, wanted)


# A message is read by the verifier, by votes and by the papers' graders.
KEPT = 4000  # characters of a message whose answer is kept


@functools.lru_cache(maxsize=1 << 14)
def _kept(text: str, kind: str) -> str | None:
    return _extracted(text, kind, ())


def _extracted(text: str, kind: str, wanted: Collection[str]) -> str | None:
    spoken, finished = thinking.spoken(text)
    if not finished:
        return None
    if kind == "code":
        return programs.program(spoken, wanted)
    tags = _TAG.findall(spoken)
    answer, _ = _read(tags[-1] if tags else spoken, kind)
    answer = _unmarked(answer) if answer else ""
    return answer if 0 < len(answer) <= LONGEST else None


def place(text: str, kind: str) -> str:
    """Where in a message its answer was looked for, in words."""
    spoken, finished = thinking.spoken(text)
    if not finished:
        return "a thought that was never finished"
    if kind == "code":
        return "the blocks of Python"
    tags = _TAG.findall(spoken)
    where = _read(tags[-1] if tags else spoken, kind)[1]
    return where + (" in <answer>" if tags else "")


def _read(text: str, kind: str) -> tuple[str | None, str]:
    every = boxes(text)
    if every and every[-1].stop is None:
        return None, "the last box"
    held = [(box, content) for box in every[-_BOXES:] if (content := _held(box, text))]
    if held:
        answer = _boxed(held, text, kind)
        if kind == "choice" and answer and choices.letter(answer) is None:
            later = _stated(text, kind)
            if later and choices.letter(later):
                return later, "the words after 'answer'"
        return answer, "the last box"
    if stated := _stated(text, kind):
        return stated, "the words after 'answer'"
    if _MARK.search(text):
        return None, "the words after 'answer'"
    whole = _unmarked(text.strip())
    return (whole if is_answer(whole, kind) else None), "the whole message"


# ---- boxes ------------------------------------------------------------------------------------


def _held(box: Box, text: str) -> str:
    """What a box holds, "" where that is nothing, or a label; of "The answer is 42" the answer."""
    content = (box.content(text) or "").strip()
    if len(content) > LONGEST:
        return content
    plain = untexted(content)
    if _LABEL.fullmatch(plain):
        return ""
    marks = list(_MARK.finditer(plain))
    return plain[marks[-1].end() :].strip() if marks and marks[-1].end() < len(plain) else content


def _boxed(held: list[tuple[Box, str]], text: str, kind: str) -> str | None:
    """The answer of the boxes that hold something: the last one; both of "7 or 8"; of a list all
    that belong together.
    """
    last, content = held[-1]
    if _DENIED.match(text[last.end : last.end + 60]) or _RETRACTED.match(text, last.end):
        return None
    if kind in ("number", "expression", "equation"):
        content = _signed(text, last, content)
    if kind not in _LISTS:
        between = text[held[-2][0].end : last.start] if len(held) > 1 else "none"
        hedged = len(between) < 40 and _OR.fullmatch(between)
        return f"{held[-2][1]} or {content}" if hedged else content
    if _listed(content):
        return content
    joined = [content]
    for (before, other), (after, _) in zip(held[-2::-1], held[:0:-1], strict=False):
        between = text[before.end : after.start]
        if len(between) > 200 or _TURN.search(between) or _listed(other):
            break
        joined.append(other)
    return ", ".join(reversed(joined)) if len(joined) < 50 else content


def _signed(text: str, box: Box, content: str) -> str:
    """What a box holds, with the minus sign before it and the percent sign, the unit or the word
    like "million" behind it.
    """
    minus = re.search(r"(?:^|[\s$=(])[-−]$", text[max(0, box.start - 3) : box.start])
    behind = _BEHIND.match(text[box.end : box.end + 60])
    if behind and behind[1]:
        content += "" if content.endswith("%") else "\\%"
    elif behind:
        word = behind[2] or behind[4] or ""
        if units.factor(word) or (behind[2] and units.unit(word)):
            content += f" \\text{{ {word}}}{behind[3] or ''}"
    return f"-{content}" if minus else content


def _listed(content: str) -> bool:
    """Whether a box holds a list, so that no other box belongs to it."""
    content = tidy(content) if len(content) <= LONGEST else ""
    return len(items(content) or []) > 1 or bool(re.match(r"[(\[]|\\\{|\\begin", content))


# ---- stated answers ---------------------------------------------------------------------------


def _stated(text: str, kind: str) -> str | None:
    """What the last mark states; one that only confirms ("the answer is correct") is passed by."""
    marks = list(_MARK.finditer(text))
    if kind == "choice":
        named = [m for m in _CORRECT.finditer(text) if not _JOINED.search(text[: m.start()][-30:])]
        marks = sorted([*marks, *named], key=lambda m: m.end())
    for mark in reversed(marks[-20:]):
        if mark.re is _CORRECT:
            return mark[1]
        clause = _behind(text, mark.end())
        if (_CONFIRMED.match(clause) and kind != "text") or _asked(clause):
            continue
        return "" if _TAKEN_BACK.search(clause) else _clause(clause, kind)
    return None


def _asked(clause: str) -> bool:
    """Whether a clause asks: "12? No.\""""
    end = re.search(r"[.!?。！？](?=\s|$)", clause)
    return end is not None and end[0] in "?？"


def _behind(text: str, start: int) -> str:
    """What a mark is followed by: the rest of its line; where that is empty, the next line that is
    not, or a displayed formula to its end.
    """
    rest = text[start : start + _CLAUSE]
    line, _, below = rest.partition("\n")
    if display := re.match(r"[\s*:：]*(?:\$\$(.+?)\$\$|\\\[(.+?)\\\])", line):
        return (display[1] or display[2]).strip()
    if not line.strip(" \t*:：_#$"):
        below = (line + "\n" + below).strip(" \t*:：_#\n") if "$" in line else below.strip(" \n\t*")
        if display := re.match(r"(?:\$\$(.*?)\$\$|\\\[(.*?)\\\])", below, re.DOTALL):
            return (display[1] or display[2] or "").strip()
        line = below.partition("\n")[0]
    elif display := re.match(r"\s*(?:\$\$|\\\[)\s*$", line):
        inner = re.match(r"(.*?)(?:\$\$|\\\])", below, re.DOTALL)
        line = inner[1] if inner else ""
    return line


def _clause(text: str, kind: str) -> str:
    """The answer of a clause: without the sentence after it and the reason behind it. What is
    hedged stays whole, and is no number then.
    """
    lead = _ADVERB.match(text)
    text = text[lead.end() :] if lead else text
    text = text.strip().strip("*`").strip()
    if kind == "choice":
        return _chosen(text)
    text = _SENTENCE.sub("", text).strip()
    if kind == "text":
        return re.sub(r"\s*,?\s*(?:because|since)\b.*", "", text, flags=re.DOTALL)
    if _HEDGE.search(text):
        return text
    text = _REASON.sub("", text).strip() if _REASON.sub("", text).strip() else text
    if kind not in ("set", "multiset", "tuple"):
        text = _AFTERTHOUGHT.sub("", _ASIDE.sub("", text))
    return text.strip().strip("`").strip()


def _chosen(text: str) -> str:
    """A choice without the sentences after it: "A. B is wrong." is A, "A. or C." is not."""
    first = re.match(r"[*\s]*[(\[]?[A-Za-z][)\]]?\s*[.:,)]?\s*[*]*", text)
    if not first:
        return _SENTENCE.sub("", text)
    rest = text[first.end() :]
    if rest.lstrip().startswith("?"):
        return text
    if re.match(
        r"[(\[]?[A-K][)\]]?\s+(?:is|was|are|fails?|can|cannot|does|has|would|seems)\b", rest
    ):
        rest = ""
    return (first[0] + _SENTENCE.sub("", rest)).strip()


# ---- the whole message ------------------------------------------------------------------------


def _unmarked(text: str) -> str:
    """Without white space, bold marks, and backticks around it."""
    text = text.strip().strip("*").strip()
    if display := re.fullmatch(r"(?:\$\$(.*)\$\$|\\\[(.*)\\\])", text, re.DOTALL):
        inner = display[1] if display[1] is not None else display[2]
        text = inner.strip() if "$" not in inner else text
    if code := re.fullmatch(r"`([^`\n]+)`", text):
        text = code[1].strip()
    return text


def is_answer(text: str, kind: str) -> bool:
    """Whether a message is nothing but an answer: one line and no sentence."""
    if not re.search(r"[\w∅]", text) or "\n" in text or len(text) > LONGEST:
        return False
    if kind == "choice":
        plain = untexted(text)
        if re.fullmatch(
            r"[^\w]*(?:(?:option|choice)\s+)?[^\w]*[A-Za-z][^\w]*", plain, re.IGNORECASE
        ):
            return True
        # an option as the question gives it, "D. The river is north", and no other one
        labels = re.findall(r"(?<!\w)\(?[A-K][.):](?=\s|$|\*)", plain)
        option = re.match(r"\(?[A-K][.):]\**\s+\S", plain)
        return option is not None and len(labels) == 1
    if kind == "text":
        return len(text.split()) <= 8
    if kind in ("number", "expression") and "=" in text:
        return False  # a step of work
    return not prose(re.sub(r"\\text\s*\{[^{}]*\}|\b(?:and|or)\b", " ", tidy(text)))
