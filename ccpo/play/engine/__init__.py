"""Engines: token ids in, token ids and log-probs out. This file is the contract; an engine is a
file beside it.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SamplingParams:
    """How one message is drawn: temperature (0: greedy) and the largest number of tokens; in an
    evaluation also truncated, in this order: `top_k` keeps so many likeliest tokens, and what is as
    likely as the last of them (0: all); `top_p` the likeliest of these until they hold that share.
    """

    temperature: float
    max_tokens: int
    top_p: float = 1.0
    top_k: int = 0

    @property
    def truncated(self) -> bool:
        """Whether some tokens are never drawn."""
        return self.top_p < 1 or self.top_k > 0


@dataclass(frozen=True)
class Completion:
    """One message: its token ids (with the end token, if it came), the engine's log-probs of these
    under the distribution that they were drawn from (at the sampling temperature, at temperature 1
    if greedy; where draws are truncated, of what is left, renormalised), and why it ended: `stop`,
    or `length` if it was cut.
    """

    token_ids: list[int]
    logprobs: list[float]
    finish_reason: Literal["stop", "length"]


# what stands for a message whose prompt left no room for it: a message has one token at least
NO_ROOM = Completion([], [], "length")


class Engine(Protocol):
    """Generates with a policy's weights. `limit`: largest number of tokens of a prompt with its
    completion (None: there is none).
    """

    limit: int | None

    def generate(
        self, prompts: Sequence[list[int]], n: int, sampling: SamplingParams, seed: Sequence[int]
    ) -> list[list[Completion]]:
        """`n` completions of each prompt; the same `seed` (whole numbers) draws the same."""
        ...

    def logprobs(
        self, prompts: Sequence[list[int]], completions: Sequence[list[int]], temperature: float
    ) -> list[list[float]]:
        """The engine's own log-probs of the tokens of given completions, one for each prompt, under
        the full distribution; at temperature 1 if greedy.
        """
        ...

    def refresh(self) -> None:
        """Called after each update of the policy: from now on the engine generates with the
        weights that the policy has now.
        """
        ...

    def layer_sums(self) -> dict[str, float]:
        """`sums_by_layer` of the weights that the engine computes with, adapters left out; empty
        where it has none of its own.
        """
        ...

    def sleep(self) -> None:
        """Called before an update: frees what the engine takes of a GPU until it next generates."""
        ...


def load(name: str) -> Callable[..., Engine]:
    """The engine class of a name, `hf` or `vllm`: made of a live model, the ids of its end tokens,
    and the ranks it shares work with. `scripted:MODULE.FUNCTION` is a test engine: FUNCTION makes a
    script (see Scripted) of the model.

    Raises:
        ValueError: there is no such function.
    """
    kind, _, place = name.partition(":")
    module = importlib.import_module(f"{__name__}.{kind}")
    if kind == "scripted":
        make: Callable[..., Engine] = module.load(place)
        return make
    engine: Callable[..., Engine] = getattr(module, name.upper())
    return engine


def sums_by_layer(named: Iterable[tuple[str, torch.Tensor]]) -> dict[str, float]:
    """Sums of the sizes of all weights by layer, whatever parts a layer's weights are cut into;
    adapters are left out.
    """
    import torch

    sums: dict[str, float] = {}
    for name, weight in named:
        if ".lora_" in name:
            continue
        match = re.search(r"layers\.\d+", name)
        layer = match[0] if match else "what is not in a layer"
        size = float(weight.detach().abs().sum(dtype=torch.float64))
        sums[layer] = sums.get(layer, 0.0) + size
    return sums


def fits(prompt: Sequence[int], sampling: SamplingParams, engine: Engine) -> bool:
    """Whether a prompt leaves room for a message."""
    return engine.limit is None or len(prompt) + sampling.max_tokens <= engine.limit


def check_context(
    prompts: Sequence[list[int]], sampling: SamplingParams, limit: int | None
) -> None:
    """Nothing, or:

    Raises:
        ValueError: a prompt is empty, or does not fit with its message into the model's context of
        `limit` tokens.
    """
    longest = math.inf if limit is None else limit - sampling.max_tokens
    for index, prompt in enumerate(prompts):
        if not 0 < len(prompt) <= longest:
            raise ValueError(
                f"prompt {index} has {len(prompt)} tokens; with {sampling.max_tokens} to generate "
                f"it must have 1 to {longest} (the model's context is {limit}). Remedy: shorten "
                "max_tokens or the prompt."
            )
