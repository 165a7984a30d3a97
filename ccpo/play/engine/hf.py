"""The reference engine: a transformers model, decoded in one batch with a key-value cache.

What prompts begin with in common is computed once (prefix.py), and rows that continue a prompt read
it where it is (attention.py); finished rows leave the batch. A row's draws come from a uniform
number for each (prompt, sample, position), so that what a prompt draws depends on the seed and its
place, not on the other prompts of the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache

from ccpo.play.engine import Completion, SamplingParams, attention, check_context, head
from ccpo.play.engine.batching import right_pad
from ccpo.play.engine.prefix import WORTHWHILE, find_shared, prefill
from ccpo.ranks import ALONE, Ranks

# finished rows leave the batch when this share or less is unfinished: leaving copies the cache
COMPACT_BELOW = 0.75


class HF:
    """An engine over a live model: it always generates with the weights that the model has now.

    `budget` bounds the tokens that are held together, of prompts once and of completions, and so
    memory. Where several `ranks` hold the same weights, each decodes its share of the prompts, and
    all get all completions. `activate` is called first: where policies are adapters of one model,
    it switches this engine's adapter on.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        end_ids: Sequence[int],
        budget: int = 1 << 15,
        ranks: Ranks = ALONE,
        activate: Callable[[], object] = lambda: None,
    ) -> None:
        self.model = model
        self.end_ids = list(end_ids)
        self.budget = budget
        self.ranks = ranks
        self.activate = activate
        attention.prepare(model)  # any other attention would leave out `branches` without a word
        self.limit: int | None = int(model.config.max_position_embeddings)

    def generate(
        self, prompts: Sequence[list[int]], n: int, sampling: SamplingParams, seed: Sequence[int]
    ) -> list[list[Completion]]:
        """See Engine.

        Raises:
            ValueError: a prompt with its message does not fit into the model's context, or is
            empty.
        """
        check_context(prompts, sampling, self.limit)
        room = sampling.max_tokens
        all_uniforms = np.random.default_rng(list(seed)).random((len(prompts), n, room))
        rows: list[list[Completion]] = []
        share = self.ranks.share(len(prompts))
        with self._generating():
            for part in self._parts([prompts[i] for i in share], n, room):
                indices = share[part]
                uniforms = torch.from_numpy(all_uniforms[indices].reshape(-1, room))
                draw = functools.partial(_sampled, sampling, uniforms.to(self.model.device))
                start = self._begin([prompts[i] for i in indices], n, room)
                tokens, logprobs = self._decode(start, room, draw, self.end_ids)
                pairs = zip(tokens.tolist(), logprobs.tolist(), strict=True)
                completions = [self._completion(ids, values) for ids, values in pairs]
                rows += [completions[i : i + n] for i in range(0, len(completions), n)]
        return self.ranks.gather(rows)

    @torch.inference_mode()
    def logprobs(
        self, prompts: Sequence[list[int]], completions: Sequence[list[int]], temperature: float
    ) -> list[list[float]]:
        """See Engine: decoded token by token, as `generate` does, with given tokens in place of
        drawn ones.
        """
        forced, _ = right_pad(completions, self.model.device)
        room = forced.shape[1]
        with self._generating():
            start = self._begin(list(prompts), 1, room)
            draw = functools.partial(_forced, temperature, forced)
            _, logprobs = self._decode(start, room, draw, [])
        return [row[: len(c)] for row, c in zip(logprobs.tolist(), completions, strict=True)]

    def refresh(self) -> None:
        """See Engine: nothing to do, it computes with the live model."""

    def layer_sums(self) -> dict[str, float]:
        """See Engine: none, it computes with the model's own."""
        return {}

    def sleep(self) -> None:
        """See Engine: nothing to do, its cache ends with the call."""

    @contextmanager
    def _generating(self) -> Iterator[None]:
        """Inside, the model computes with this engine's weights and without dropout."""
        self.activate()
        training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(training)

    def _parts(self, prompts: Sequence[list[int]], n: int, max_tokens: int) -> Iterator[slice]:
        """Prompts in their order, in parts that stay within the budget."""
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
        self, start: _Start, room: int, draw: _Sampler, end_ids: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and their log-probs [S, room], of any meaning behind a row's end token."""
        cache = start.cache
        branches = start.branches
        logits = start.logits
        position = start.position
        end = torch.tensor(end_ids, device=logits.device)
        rows = torch.arange(len(logits), device=logits.device)
        done = torch.zeros_like(rows, dtype=torch.bool)
        tokens = rows.new_zeros(len(rows), room)
        logprobs = logits.new_zeros(len(rows), room, dtype=torch.float32)
        for t in range(room):
            token, logprob = draw(logits, rows, t)
            tokens[rows, t] = token
            logprobs[rows, t] = logprob
            done |= torch.isin(token, end)
            unfinished = len(done) - int(done.sum())
            if t + 1 == room or not unfinished:
                break
            if unfinished < COMPACT_BELOW * len(done):
                keep = (~done).nonzero()[:, 0]
                rows = rows[keep]
                done = done[keep]
                token = token[keep]
                position = position[keep]
                cache.batch_select_indices(keep)
                branches = branches.select(keep)
            logits = self.model(
                input_ids=token[:, None],
                position_ids=position[:, None],
                past_key_values=cache,
                use_cache=True,
                branches=branches,
            ).logits[:, -1]
            position = position + 1
        return tokens, logprobs

    @torch.inference_mode()
    def _begin(self, prompts: list[list[int]], n: int, room: int) -> _Start:
        """What decoding `n` rows of each prompt starts with. Equal prompts are computed once."""
        index = {tuple(p): i for i, p in enumerate(dict.fromkeys(map(tuple, prompts)))}
        unique = [list(p) for p in index]
        shared = find_shared(unique)
        tokens = sum(map(len, unique)) + len(prompts) * n * room
        worthwhile = shared.saved > WORTHWHILE * tokens
        cache = DynamicCache(config=self.model.config)
        prefilled = prefill(self.model, unique, shared if worthwhile else None, cache)
        device = prefilled.mask.device
        seen = prefilled.mask[:, None, None]
        padding_bias = (
            None
            if seen.all()
            else torch.zeros_like(seen, dtype=self.model.dtype).masked_fill(~seen, -torch.inf)
        )
        prompt = torch.tensor([index[tuple(p)] for p in prompts], device=device)
        layers = [attention.keys_and_values(layer) for layer in cache.layers]
        branches = attention.Branches.make(layers, padding_bias, prompt.repeat_interleave(n))
        rows = torch.arange(len(unique), device=device)
        logits = head.logits(self.model, prefilled.hidden[rows, prefilled.length - 1])
        position = prefilled.start + prefilled.length
        return _Start(
            cache=attention.completion_cache(len(cache.layers), room - 1),
            branches=branches,
            logits=logits[branches.prompt],
            position=position[branches.prompt],
        )

    def _completion(self, token_ids: list[int], logprobs: list[float]) -> Completion:
        ends = (i + 1 for i, token in enumerate(token_ids) if token in self.end_ids)
        length = next(ends, 0)
        return Completion(
            token_ids[: length or None], logprobs[: length or None], "stop" if length else "length"
        )


@dataclass(frozen=True)
class _Start:
    """What decoding starts with: an empty cache for the completions, the prompts that they
    continue, and the logits [S, V] and position [S] of the first token.
    """

    cache: Cache
    branches: attention.Branches
    logits: torch.Tensor
    position: torch.Tensor


# of logits, rows and position: tokens and log-probs
_Sampler = Callable[[torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]


def pick(
    logits: torch.Tensor, sampling: SamplingParams, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [rows] drawn by inverting the cumulative distribution at `uniform`, and their
    log-probs [rows] under the distribution drawn from, truncated where `sampling` says so; greedy
    at temperature 0.
    """
    logprobs = _log_softmax(logits, sampling.temperature)
    if sampling.truncated:
        logprobs = truncate(logprobs, sampling.top_p, sampling.top_k)
    if sampling.temperature == 0:
        token = logprobs.argmax(-1)
    else:
        cumulative = logprobs.exp().double().cumsum(-1)
        token = (
            torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None])
            .squeeze(1)
            .clamp_max(logits.shape[-1] - 1)
        )
    return token, logprobs.gather(1, token[:, None]).squeeze(1)


def truncate(logprobs: torch.Tensor, top_p: float, top_k: int) -> torch.Tensor:
    """Log-probs [rows, V] of what top-k and then top-p leave, renormalised; -inf of the rest.

    As vLLM and transformers do it, after the temperature: kept are the `top_k` likeliest tokens
    (0: all) and what is as likely as the last of them; of these, the likeliest whose more likely
    ones hold less than `top_p`, one at least.
    """
    if 0 < top_k < logprobs.shape[-1]:
        last = logprobs.topk(top_k, dim=-1).values[:, -1:]
        logprobs = logprobs.masked_fill(logprobs < last, -torch.inf).log_softmax(-1)
    if top_p < 1:
        ordered, tokens = logprobs.sort(dim=-1, descending=True, stable=True)
        shares = ordered.exp().double()
        before = shares.cumsum(-1) - shares
        left_out = (before >= top_p).scatter(-1, tokens, before >= top_p)
        logprobs = logprobs.masked_fill(left_out, -torch.inf).log_softmax(-1)
    return logprobs


def _sampled(
    sampling: SamplingParams,
    uniforms: torch.Tensor,
    logits: torch.Tensor,
    rows: torch.Tensor,
    t: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    return pick(logits, sampling, uniforms[rows, t])


def _forced(
    temperature: float, forced: torch.Tensor, logits: torch.Tensor, rows: torch.Tensor, t: int
) -> tuple[torch.Tensor, torch.Tensor]:
    token = forced[rows, t]
    return token, _log_softmax(logits, temperature).gather(1, token[:, None]).squeeze(1)


def _log_softmax(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    return torch.log_softmax(logits.float() / (temperature or 1.0), -1)
