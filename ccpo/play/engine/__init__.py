"""Engines: token ids in, token ids and log-probs out. This file holds only the contract; an engine is a file beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Draw:
    """How to draw one message: temperature (0: greedy) and the largest number of tokens."""

    temperature: float
    max_tokens: int


@dataclass(frozen=True)
class Completion:
    """One message: its token ids (with the end token, if it came), their behaviour log-probs at the drawing temperature (at
    temperature 1 if greedy), and why it ended: `stop`, or `length` if it was cut."""

    ids: list[int]
    logprobs: list[float]
    finish_reason: Literal["stop", "length"]


class Engine(Protocol):
    """Generates completions of prompts. `limit`: largest number of tokens of a prompt with its completion (None: there is none)."""

    limit: int | None

    def generate(self, prompts: Sequence[list[int]], n: int, draw: Draw, seed: Sequence[int]) -> list[list[Completion]]:
        """`n` completions of each prompt; the same `seed` (a list of whole numbers) draws the same."""
        ...
