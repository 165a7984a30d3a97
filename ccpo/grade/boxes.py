"""The one reader of boxes: where `\\boxed`, `\\fbox` and `\\framebox` stand in a text and what they
hold. The verifier takes answers out of boxes, the guard of a team takes boxes out of messages; both
ask here, so that nothing which counts as an answer reaches a partner.

One pass over the text, no recursion: 10^5 nested boxes take a fraction of a second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_MARK = r"\\(?:f?boxed|fbox|framebox)(?![A-Za-z])"
# A box, an escaped backslash (not the one of "\\boxed"), an escaped brace, a brace.
_TOKEN = re.compile(rf"({_MARK})\s*(\{{)?|\\\\(?!f?boxed|fbox|framebox)|\\[{{}}]|([{{}}])")
_FIRST = re.compile(_MARK)
# What a box without braces holds: a command with its arguments, or the characters up to a space.
_UNBRACED = re.compile(r"\\[A-Za-z]+(?:\{[^{}]*\})*|[^\s{}$\\]+")


@dataclass
class _Open:
    """A box that has not been closed yet: where it starts, and the last box in it."""

    start: int
    inside: int
    last: Box | None = None


@dataclass(frozen=True)
class Box:
    """Characters `start` to `end` of a text are a box that holds `inside` to `stop` (`stop` None:
    it never closes); `last` is the last box in it.
    """

    start: int
    end: int
    inside: int
    stop: int | None
    last: Box | None = field(default=None, repr=False, compare=False)

    def content(self, text: str) -> str | None:
        """What the box holds; of nested boxes, what the last and innermost holds. None: it never
        closes.
        """
        box = self
        while box.stop is not None and box.last is not None:
            box = box.last
        return None if box.stop is None else text[box.inside : box.stop]


def boxes(text: str) -> list[Box]:
    """Every outermost box, in the order of the text."""
    out: list[Box] = []
    stack: list[_Open | None] = []  # what is open: boxes, and None for other braces
    enclosing: list[_Open] = []  # those of the stack that are boxes
    past = 0
    first = _FIRST.search(text)  # braces before it close nothing of it
    for token in _TOKEN.finditer(text, first.start()) if first else ():
        if token.start() < past:
            continue
        box: Box | None = None
        if token[1] and token[2]:
            enclosing.append(_Open(token.start(), token.end()))
            stack.append(enclosing[-1])
        elif token[1]:
            box = _unbraced(text, token)
            past = box.end
        elif token[3] == "{":
            stack.append(None)
        elif token[3] == "}" and stack:
            opened = stack.pop()
            if opened:
                enclosing.pop()
                box = Box(opened.start, token.end(), opened.inside, token.start(), opened.last)
        if box and enclosing:
            enclosing[-1].last = box
        elif box:
            out.append(box)
    if enclosing:
        opened = enclosing[0]
        out.append(Box(opened.start, len(text), opened.inside, None))
    return out


def _unbraced(text: str, token: re.Match[str]) -> Box:
    content = _UNBRACED.match(text, token.end())
    if content is None or re.match(_MARK, content[0]):
        return Box(token.start(), token.end(), token.end(), token.end())
    stop = content.start() + len(content[0].rstrip(".,;"))
    return Box(token.start(), stop, content.start(), stop)


def remove(text: str) -> str:
    """The text without its boxes; one that never closes takes everything after it along."""
    kept = _without(text, "")
    while boxes(kept):  # what stood around a box made another one
        kept = _without(kept, " ")
    return kept


def _without(text: str, instead: str) -> str:
    out = []
    start = 0
    for box in boxes(text):
        out.append(text[start : box.start])
        start = box.end
    return instead.join([*out, text[start:]])
