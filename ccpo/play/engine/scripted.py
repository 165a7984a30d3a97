"""A scripted engine for tests: what it generates is a function of the prompt, so that every outcome
is known beforehand.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ccpo.play.engine import Completion, SamplingParams, check_context


class Scripted:
    """Calls `script(prompt ids, sample number, uniform number) -> token ids` a completion."""

    limit: int | None = None

    def __init__(self, script: Callable[[list[int], int, float], list[int]]) -> None:
        self.script = script

    def generate(
        self, prompts: Sequence[list[int]], n: int, sampling: SamplingParams, seed: Sequence[int]
    ) -> list[list[Completion]]:
        """See Engine; every log-prob is 0: a script is certain of its tokens, so that top-k and
        top-p, which keep the likeliest, leave every one.
        """
        check_context(prompts, sampling, self.limit)
        uniforms = np.random.default_rng(list(seed)).random((len(prompts), n))
        return [
            [self._completion(p, j, float(uniforms[i, j]), sampling) for j in range(n)]
            for i, p in enumerate(prompts)
        ]

    def logprobs(
        self, prompts: Sequence[list[int]], completions: Sequence[list[int]], temperature: float
    ) -> list[list[float]]:
        """See Engine: 0, as it generates."""
        return [[0.0] * len(token_ids) for token_ids in completions]

    def refresh(self) -> None:
        """See Engine: a script has no weights."""

    def layer_sums(self) -> dict[str, float]:
        """See Engine: a script has no weights."""
        return {}

    def sleep(self) -> None:
        """See Engine: a script takes nothing."""

    def _completion(
        self, prompt: list[int], sample: int, uniform: float, sampling: SamplingParams
    ) -> Completion:
        full = self.script(prompt, sample, uniform)
        token_ids = full[: sampling.max_tokens]
        complete = len(token_ids) == len(full)
        return Completion(token_ids, [0.0] * len(token_ids), "stop" if complete else "length")


def load(place: str) -> Callable[..., Scripted]:
    """What makes engines that play the script which MODULE.FUNCTION makes of a model.

    Raises:
        ValueError: there is no such function.
    """
    module, _, function = place.rpartition(".")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"sampling.engine scripted:{place}: there is no function {function} in a module "
            f"{module} on Python's path ({error}). Remedy: engine hf; scripts are for tests"
        ) from None

    def engine(model: Any, *_: object, **__: object) -> Scripted:
        return Scripted(make(model))

    return engine
