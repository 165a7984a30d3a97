"""Ratings: how an author of an episode divides the credit for its outcome, once the verdict is
known (SEPO), read strictly.

A reply counts only if it is one JSON object with exactly the three fields asked for, the verdict
repeated, and one of nine splits. Anything else is rejected with a reason. The official parser takes
any bracketed pair of the grid out of free text, so that a reply which first repeats the list of
allowed pairs is read as (0.9, 0.1), and counts what it cannot read as a vote for (0.5, 0.5).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ccpo.team import guard

GRID = tuple((k / 10, (10 - k) / 10) for k in range(9, 0, -1))
LONGEST = 4000  # characters of a reply
# bracketed pairs that a reply may hold, its reason included; more is the list of pairs repeated
QUOTED = 4
FIELDS = ("outcome", "pair", "brief_reason")
PAIR = re.compile(r"[\[(]\s*0?\.\d+\s*[,/]\s*0?\.\d+\s*[\])]")

# No example object and no list of pairs: the official prompt ends on an example of 0.7 / 0.3, which
# invites copying.
SYSTEM = (
    "You judge how two agents shared in an outcome: agent 1 wrote the thought, agent 2 the "
    "answer. Reply with one JSON object and nothing "
    'else. Its fields are "outcome", "pair" and "brief_reason". The outcome repeats the verdict. '
    "The pair holds two numbers, the shares "
    "of agent 1 and of agent 2, each a whole number of tenths, at least one tenth, together one. "
    "For a correct outcome the shares are "
    "credit, for a wrong one responsibility. The reason is one short sentence."
)
USER = ("You are agent ", ".\nVerdict: ", "\nProblem: ", "\nThought: ", "\nAnswer: ")
REPLY = ('{"outcome":"', '","pair":[', '],"brief_reason":"', '"}')


@dataclass(frozen=True)
class Rating:
    """Shares of the two agents (None: rejected), and why they were rejected ("" if not)."""

    shares: tuple[float, float] | None
    reason: str = ""


def ask(
    rater: int, question: str, thought: str, answer: str, correct: bool
) -> list[dict[str, str]]:
    """The chat messages that ask agent `rater` (0 or 1) for its rating; it sees the thought as its
    reader did.
    """
    parts = (str(rater + 1), verdict(correct), question, guard(thought), answer)
    return [
        {"role": "system", "content": SYSTEM},
        {
            "role": "user",
            "content": "".join(label + text for label, text in zip(USER, parts, strict=True)),
        },
    ]


def verdict(correct: bool) -> str:
    """The word for an outcome, in prompts and replies."""
    return "correct" if correct else "wrong"


def reply(shares: tuple[float, float], correct: bool, reason: str) -> str:
    """A reply that is read as these shares: what a demonstration shows."""
    parts = (verdict(correct), f"{shares[0]:g},{shares[1]:g}", reason)
    return "".join(label + text for label, text in zip(REPLY, (*parts, ""), strict=True))


class _Duplicate(ValueError):
    """A field stands twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise _Duplicate
    return dict(pairs)


def _no_constant(name: str) -> float:
    raise ValueError(name)  # NaN and infinities, which Python's JSON would take


# Whole numbers are read as floats: one of 400 digits is then infinite, while Python's int would not
# compare or add to a float.
_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant, parse_int=float)


def parse(text: str, correct: bool) -> Rating:
    """The rating in a reply, given the verdict. One ```json fence around the object is allowed,
    since it changes nothing.
    """
    text = text.strip()
    if len(text) > LONGEST:
        return Rating(None, "too long")
    # no \s* beside .*: cubic in a reply of white space
    fenced = re.fullmatch(r"```(?:json)?(.*)```", text, re.DOTALL)
    text = fenced[1].strip() if fenced else text
    start = text.find("{")
    if len(PAIR.findall(text)) > QUOTED:
        return Rating(None, "echoes the list of pairs")
    if start < 0:
        return Rating(None, "no JSON object" if text else "empty")
    if start > 0:
        return Rating(None, "text before the object")
    try:
        fields, end = _DECODER.raw_decode(text)
    except _Duplicate:
        return Rating(None, "a field stands twice")
    except json.JSONDecodeError:
        return Rating(None, "truncated JSON" if _open(text) else "not JSON")
    except (ValueError, RecursionError):
        return Rating(None, "not JSON")
    if text[end:].strip():
        return Rating(None, "several objects" if "{" in text[end:] else "text after the object")
    return _checked(fields, correct)


def _open(text: str) -> bool:
    """Whether the text ends inside an object or a string."""
    unquoted = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    return unquoted.count("{") > unquoted.count("}") or '"' in unquoted


def _checked(fields: dict[str, Any], correct: bool) -> Rating:
    """The rating of a well-formed object."""
    for field in FIELDS:
        if field not in fields:
            return Rating(None, f"no field {field}")
    if unknown := sorted(set(fields) - set(FIELDS)):
        return Rating(None, f"unknown field {unknown[0][:40]}")
    if fields["outcome"] not in ("correct", "wrong"):
        return Rating(None, "outcome is neither correct nor wrong")
    if fields["outcome"] != verdict(correct):
        return Rating(None, "outcome contradicts the verdict")
    if not isinstance(fields["brief_reason"], str):
        return Rating(None, "reason is no text")
    pair = fields["pair"]
    if not isinstance(pair, list):
        return Rating(None, "pair is no list")
    if any(isinstance(share, list) for share in pair):
        return Rating(None, "echoes the list of pairs")
    if len(pair) != 2:
        return Rating(None, "pair has not two numbers")
    if any(isinstance(share, str) and "%" in share for share in pair):
        return Rating(None, "percentages")
    if any(not isinstance(share, float) for share in pair):
        return Rating(None, "a share is no number")
    if all(share >= 1 for share in pair) and abs(sum(pair) - 100) < 1e-9:
        return Rating(None, "percentages")
    if abs(sum(pair) - 1) > 1e-9:
        return Rating(None, "shares do not sum to one")
    split = (pair[0], pair[1])
    return Rating(split) if split in GRID else Rating(None, "off the grid")
