"""Engines: token ids in, token ids and log-probs out. This file is the contract; an engine is a
file beside it.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Draw:
    """How to draw one message: temperature (0: greedy) and the largest number of tokens."""

    temperature: float
    max_tokens: int


@dataclass(frozen=True)
class Completion:
    """One message: its token ids (with the end token, if it came), their behaviour log-probs at the
    drawing temperature (at temperature 1 if greedy), and why it ended: `stop`, or `length` if it
    was cut.
    """

    ids: list[int]
    logprobs: list[float]
    finish_reason: Literal["stop", "length"]


class Engine(Protocol):
    """Speaks with a policy's weights. `limit`: largest number of tokens of a prompt with its
    completion (None: there is none).
    """

    limit: int | None

    def generate(
        self, prompts: Sequence[list[int]], n: int, draw: Draw, seed: Sequence[int]
    ) -> list[list[Completion]]:
        """`n` completions of each prompt; the same `seed` (whole numbers) draws the same."""
        ...

    def logprobs(
        self, prompts: Sequence[list[int]], completions: Sequence[list[int]], temperature: float
    ) -> list[list[float]]:
        """The engine's own log-probs of the tokens of completions it is given, one of each prompt;
        at temperature 1 if greedy.
        """
        ...

    def refresh(self) -> None:
        """Called after each update of the policy: from now on the engine speaks with the weights
        that the policy has now.
        """
        ...

    def sums(self) -> dict[str, float]:
        """`layers` of the weights that the engine computes with, adapters left out; empty where it
        has none of its own.
        """
        ...

    def rest(self) -> None:
        """Called before an update: what the engine takes of the GPU may be needed until it next
        speaks.
        """
        ...


def load(name: str) -> Callable[..., Engine]:
    """The engine class of a name, `hf` or `vllm`: made of a live model, the ids of its end tokens,
    and the ranks it shares work with.
    """
    return getattr(importlib.import_module(f"{__name__}.{name}"), name.upper())


def layers(named: Iterable[tuple[str, Any]]) -> dict[str, float]:
    """Sums of the sizes of all weights by layer, whatever parts a layer's weights are cut into;
    adapters are left out.
    """
    import torch

    out: dict[str, float] = {}
    for name, weight in named:
        if ".lora_" not in name:
            found = re.search(r"layers\.\d+", name)
            layer = found[0] if found else "what is not in a layer"
            out[layer] = out.get(layer, 0.0) + float(weight.detach().abs().sum(dtype=torch.float64))
    return out


def fits(prompts: Sequence[list[int]], draw: Draw, limit: int | None) -> None:
    """Nothing, or:

    Raises:
        ValueError: a prompt is empty, or does not fit with its message into the model's context of
            `limit` tokens.
    """
    most = math.inf if limit is None else limit - draw.max_tokens
    for index, prompt in enumerate(prompts):
        if not 0 < len(prompt) <= most:
            raise ValueError(
                f"prompt {index} has {len(prompt)} tokens; with {draw.max_tokens} to generate it "
                f"must have 1 to {most} (the model's "
                f"context is {limit}). Remedy: shorten max_tokens or the prompt."
            )
