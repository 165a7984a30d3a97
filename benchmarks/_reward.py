"""The reward of update.py, one function for both sides."""

from __future__ import annotations

from ccpo.grade import verifier
from ccpo.grade.verifier import Verdict

_verified = verifier.verify  # update.py puts the function below in its place


def verify(text: str, truth: str, kind: str = "text", tolerance: float = 0.0) -> Verdict:
    """The verdict on a message; where the truth is like "e >= 15", whether the text has at least as
    many of that letter.

    SmolLM2 can learn letters within few updates, and hardly a group of messages agrees on them: one
    that does teaches nothing, and ours would not compute it.
    """
    letter, _, least = truth.partition(" >= ")
    if not least:
        return _verified(text, truth, kind, tolerance)
    return Verdict(text[:10], text.count(letter) >= int(least))
