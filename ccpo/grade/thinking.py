"""Blocks of thinking in a message: what stands between <think> and </think>, or between marks that
models write in their place (<thinking>, <seed:think>, [THINK]).
"""

from __future__ import annotations

import re

# group 1: "/" where it closes a block
MARK = re.compile(r"[<\[](/?)(?:\w+:)?think(?:ing)?[>\]]", re.IGNORECASE)


def spoken(text: str) -> tuple[str, bool]:
    """A message without its thinking, from each opening mark to the next closing one, and whether
    every block is finished. What follows an opening mark that is never closed is thinking, and so
    is all that precedes a closing mark that was never opened, as where a template opened it. A
    message without such marks is as it was.
    """
    kept: list[str] = []
    thinking = False
    end = 0
    for match in MARK.finditer(text):
        if not thinking:
            kept = [] if match[1] else [*kept, text[end : match.start()]]
        thinking = not match[1]
        end = match.end()
    if not end:
        return text, True
    return "".join([*kept, *([] if thinking else [text[end:]])]).strip(), not thinking


def without_thinking(text: str) -> str:
    """A message without its thinking, as a partner reads it."""
    return spoken(text)[0]
