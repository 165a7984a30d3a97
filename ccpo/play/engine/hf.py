"""The reference engine: a transformers model, decoded in one batch with a key-value cache.

What prompts begin with in common is computed once (prefix.py), and rows that continue a prompt read
it where it is (attention.py); finished rows leave the batch. A row's draws come from a uniform
number for each (prompt, sample, position), so that what a prompt draws depends on the seed and its
place, not on its company.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicCache

from ccpo.play.engine import Completion, Draw, attention, fits
from ccpo.play.engine.prefix import WORTH, enter, trunks
from ccpo.ranks import ALONE, Ranks

CROWD = 0.75  # rows leave the batch when this share or less is left


class HF:
    """An engine over a live model: it always speaks with the weights that the model has now.

    `budget` bounds the tokens that are held together, of prompts once and of completions, and so
    memory. Where several `ranks` speak with the same weights, each decodes its share of the
    prompts, and all get all completions. `ready` is called first: where policies are adapters of
    one model, it makes this engine's the live one.
    """

    def __init__(
        self,
        model: Any,
        end_ids: Sequence[int],
        budget: int = 1 << 15,
        ranks: Ranks = ALONE,
        ready: Callable[[], object] = lambda: None,
    ) -> None:
        self.model = model
        self.end_ids = list(end_ids)
        self.budget = budget
        self.ranks = ranks
        self.ready = ready
        attention.prepare(model)  # any other attention would leave out `branches` without a word
        self.limit: int | None = int(model.config.max_position_embeddings)

    def generate(
        self, prompts: Sequence[list[int]], n: int, draw: Draw, seed: Sequence[int]
    ) -> list[list[Completion]]:
        """See Engine.

        Raises:
            ValueError: a prompt with its message does not fit into the model's context, or is
                empty.
        """
        fits(prompts, draw, self.limit)
        uniform = np.random.default_rng(list(seed)).random((len(prompts), n, draw.max_tokens))
        out: list[list[Completion]] = []
        mine = self.ranks.mine(len(prompts))
        with self._speaking():
            for part in self._parts([prompts[i] for i in mine], n, draw.max_tokens):
                chosen = mine[part]
                lots = torch.from_numpy(uniform[chosen].reshape(-1, draw.max_tokens)).to(
                    self.model.device
                )
                choose = functools.partial(_drawn, draw.temperature, lots)
                tokens, logps = self._decode(
                    [prompts[i] for i in chosen], n, draw.max_tokens, choose, self.end_ids
                )
                done = [
                    self._completion(i, p)
                    for i, p in zip(tokens.tolist(), logps.tolist(), strict=True)
                ]
                out += [done[i : i + n] for i in range(0, len(done), n)]
        return self.ranks.gather(out)

    @torch.inference_mode()
    def logprobs(
        self, prompts: Sequence[list[int]], completions: Sequence[list[int]], temperature: float
    ) -> list[list[float]]:
        """See Engine: decoded token by token, as `generate` does, with the given tokens in place of
        drawn ones.
        """
        room = max(map(len, completions))
        said = torch.tensor(
            [[*c, *[0] * (room - len(c))] for c in completions], device=self.model.device
        )
        with self._speaking():
            found = self._decode(
                list(prompts), 1, room, functools.partial(_given, temperature, said), []
            )[1]
        return [row[: len(c)] for row, c in zip(found.tolist(), completions, strict=True)]

    def refresh(self) -> None:
        """See Engine: nothing to do, it speaks with the live model."""

    def sums(self) -> dict[str, float]:
        """See Engine: none, it computes with the model's own."""
        return {}

    def rest(self) -> None:
        """See Engine: nothing to do, its cache ends with the call."""

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Inside, the model computes with this engine's weights and without dropout."""
        self.ready()
        training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(training)

    def _parts(self, prompts: Sequence[list[int]], n: int, max_tokens: int) -> Iterator[slice]:
        start = 0
        longest = 0
        for i, prompt in enumerate(prompts):
            longest = max(longest, len(prompt))
            if i > start and (i + 1 - start) * (longest + n * max_tokens) > self.budget:
                yield slice(start, i)
                start = i
                longest = len(prompt)
        if prompts:
            yield slice(start, len(prompts))

    @torch.inference_mode()
    def _decode(
        self, prompts: list[list[int]], n: int, room: int, choose: Choose, end_ids: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and their log-probs [S, room] of `n` rows of each prompt, of any meaning behind a
        row's end token.
        """
        cache, branches, logits, position = self._begin(prompts, n, room)
        end = torch.tensor(end_ids, device=logits.device)
        rows = torch.arange(len(logits), device=logits.device)
        done = torch.zeros_like(rows, dtype=torch.bool)
        tokens = rows.new_zeros(len(rows), room)
        logps = logits.new_zeros(len(rows), room, dtype=torch.float32)
        for t in range(room):
            token, logp = choose(logits, rows, t)
            tokens[rows, t] = token
            logps[rows, t] = logp
            done |= torch.isin(token, end)
            live = len(done) - int(done.sum())
            if t + 1 == room or not live:
                break
            if live < CROWD * len(
                done
            ):  # dropping rows copies what is left: worth it for several at a time
                keep = (~done).nonzero()[:, 0]
                rows = rows[keep]
                done = done[keep]
                token = token[keep]
                position = position[keep]
                cache.batch_select_indices(keep)
                branches = branches.some(keep)
            given = {"past_key_values": cache, "use_cache": True, "branches": branches}
            logits = self.model(
                input_ids=token[:, None], position_ids=position[:, None], **given
            ).logits[:, -1]
            position = position + 1
        return tokens, logps

    def _begin(
        self, prompts: list[list[int]], n: int, room: int
    ) -> tuple[Cache, attention.Branches, torch.Tensor, torch.Tensor]:
        """What decoding `n` rows of each prompt starts with: an empty cache of what is said, the
        prompts that it follows, logits [S, V] and position [S] of the first token. Equal prompts
        are computed once.
        """
        place = {tuple(p): i for i, p in enumerate(dict.fromkeys(map(tuple, prompts)))}
        unique = [list(p) for p in place]
        shared = trunks(unique)
        tokens = sum(map(len, unique)) + len(prompts) * n * room
        cache = DynamicCache(config=self.model.config)
        entered = enter(
            self.model, unique, shared if shared.saved > WORTH * tokens else None, cache
        )
        seen = entered.mask[:, None, None]
        of = torch.tensor([place[tuple(p)] for p in prompts], device=entered.mask.device)
        hide = (
            None
            if seen.all()
            else torch.zeros_like(seen, dtype=self.model.dtype).masked_fill(~seen, -torch.inf)
        )
        branches = attention.Branches.make(
            [attention.held(layer) for layer in cache.layers], hide, of.repeat_interleave(n)
        )
        last = entered.hidden[torch.arange(len(unique), device=of.device), entered.length - 1]
        logits = self.model.get_output_embeddings()(last)
        after = entered.start + entered.length
        return (
            attention.tails(len(cache.layers), room - 1),
            branches,
            logits[branches.of],
            after[branches.of],
        )

    def _completion(self, ids: list[int], logprobs: list[float]) -> Completion:
        length = next((i + 1 for i, token in enumerate(ids) if token in self.end_ids), 0)
        return Completion(
            ids[: length or None], logprobs[: length or None], "stop" if length else "length"
        )


Choose = Callable[
    [torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]
]  # of logits, rows and place: tokens, log-probs


def pick(
    logits: torch.Tensor, temperature: float, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [rows] drawn by inverting the cumulative distribution at `uniform`, and their
    log-probs [rows]; greedy at temperature 0.
    """
    logps = _logps(logits, temperature)
    if temperature == 0:
        token = logps.argmax(-1)
    else:
        cumulative = logps.exp().double().cumsum(-1)
        token = (
            torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None])
            .squeeze(1)
            .clamp_max(logits.shape[-1] - 1)
        )
    return token, logps.gather(1, token[:, None]).squeeze(1)


def _drawn(
    temperature: float, uniform: torch.Tensor, logits: torch.Tensor, rows: torch.Tensor, t: int
) -> tuple[torch.Tensor, torch.Tensor]:
    return pick(logits, temperature, uniform[rows, t])


def _given(
    temperature: float, said: torch.Tensor, logits: torch.Tensor, rows: torch.Tensor, t: int
) -> tuple[torch.Tensor, torch.Tensor]:
    return said[rows, t], _logps(logits, temperature).gather(1, said[rows, t][:, None]).squeeze(1)


def _logps(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    return torch.log_softmax(logits.float() / (temperature or 1.0), -1)
