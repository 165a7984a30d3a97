"""Blocks of thinking in a message: what stands between <think> and </think>, or between marks that
models write in their place (<thinking>, <seed:think>, [THINK]).
"""

from __future__ import annotations

import re

# group 1: "/" where it closes a block
MARK = re.compile(r"[<\[](/?)(?:\w+:)?think(?:ing)?[>\]]", re.IGNORECASE)


def without_thinking(text: str) -> str:
    """A message without its thinking: from an opening mark to the next closing one. What follows an
    opening mark that is never closed is thinking, and so is all that precedes a closing mark that
    was never opened. A message without such marks is as it was.
    """
    if not MARK.search(text):
        return text
    kept: list[str] = []
    thinking = False
    end = 0
    for match in MARK.finditer(text):
        if not thinking:
            kept = [] if match[1] else [*kept, text[end : match.start()]]
        thinking = not match[1]
        end = match.end()
    if not thinking:
        kept.append(text[end:])
    return "".join(kept).strip()
