"""A scripted engine for tests: what it says is a function of the prompt, so that every outcome is
known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ccpo.play.engine import Completion, Draw, fits


class Scripted:
    """Calls `script(prompt ids, sample number, uniform number) -> token ids` a completion."""

    limit: int | None = None

    def __init__(self, script: Callable[[list[int], int, float], list[int]]) -> None:
        self.script = script

    def generate(
        self, prompts: Sequence[list[int]], n: int, draw: Draw, seed: Sequence[int]
    ) -> list[list[Completion]]:
        """See Engine; every log-prob is 0 (a script is certain of what it says)."""
        fits(prompts, draw, self.limit)
        uniform = np.random.default_rng(list(seed)).random((len(prompts), n))
        return [
            [self._one(p, j, float(uniform[i, j]), draw) for j in range(n)]
            for i, p in enumerate(prompts)
        ]

    def logprobs(
        self, prompts: Sequence[list[int]], completions: Sequence[list[int]], temperature: float
    ) -> list[list[float]]:
        """See Engine: 0, as it generates."""
        return [[0.0] * len(said) for said in completions]

    def refresh(self) -> None:
        """See Engine: a script has no weights."""

    def sums(self) -> dict[str, float]:
        """See Engine: a script has no weights."""
        return {}

    def rest(self) -> None:
        """See Engine: a script takes nothing."""

    def _one(self, prompt: list[int], sample: int, uniform: float, draw: Draw) -> Completion:
        said = self.script(prompt, sample, uniform)
        ids = said[: draw.max_tokens]
        return Completion(ids, [0.0] * len(ids), "stop" if len(ids) == len(said) else "length")
