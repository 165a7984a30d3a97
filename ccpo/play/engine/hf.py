"""The reference engine: a transformers model, decoded in one batch with a key-value cache.

Equal prompts are prefilled once and their cache is branched; finished rows leave the batch. A row's draws come from a uniform number
for each (prompt, sample, position), so that what a prompt draws depends on the seed and its place, not on its company.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ccpo.play.engine import Completion, Draw
from ccpo.ranks import ALONE, Ranks


class HF:
    """An engine over a live model: it always speaks with the weights that the model has now.

    `budget` bounds prompt plus completion tokens decoded together, and so memory. Where several `ranks` speak with the same weights, each
    decodes its share of the prompts, and all get all completions. `ready` is called first: where policies are adapters of one model, it
    makes this engine's the live one.
    """

    def __init__(
        self,
        model: Any,
        end_ids: Sequence[int],
        budget: int = 1 << 15,
        ranks: Ranks = ALONE,
        ready: Callable[[], object] = lambda: None,
    ) -> None:
        self.model, self.end_ids, self.budget, self.ranks, self.ready = model, list(end_ids), budget, ranks, ready
        self.context = int(model.config.max_position_embeddings)
        self.limit: int | None = self.context

    def generate(self, prompts: Sequence[list[int]], n: int, draw: Draw, seed: Sequence[int]) -> list[list[Completion]]:
        """See Engine.

        Raises:
            ValueError: a prompt with its message does not fit into the model's context, or is empty.
        """
        for index, prompt in enumerate(prompts):
            if not prompt or len(prompt) + draw.max_tokens > self.context:
                raise ValueError(
                    f"prompt {index} has {len(prompt)} tokens; with {draw.max_tokens} to generate it must have 1 to "
                    f"{self.context - draw.max_tokens} (the model's context is {self.context}). Remedy: shorten max_tokens or the prompt."
                )
        uniform = np.random.default_rng(list(seed)).random((len(prompts), n, draw.max_tokens))
        out: list[list[Completion]] = []
        self.ready()
        training = self.model.training
        self.model.eval()
        mine = self.ranks.mine(len(prompts))
        for part in self._parts([prompts[i] for i in mine], n, draw.max_tokens):
            chosen = mine[part]
            rows = torch.from_numpy(uniform[chosen].reshape(-1, draw.max_tokens))
            done = self._decode([prompts[i] for i in chosen], n, draw, rows)
            out += [done[i : i + n] for i in range(0, len(done), n)]
        self.model.train(training)
        return self.ranks.gather(out)

    def _parts(self, prompts: Sequence[list[int]], n: int, max_tokens: int) -> Iterator[slice]:
        start, longest = 0, 0
        for i, prompt in enumerate(prompts):
            longest = max(longest, len(prompt))
            if i > start and (i + 1 - start) * n * (longest + max_tokens) > self.budget:
                yield slice(start, i)
                start, longest = i, len(prompt)
        if prompts:
            yield slice(start, len(prompts))

    @torch.inference_mode()
    def _decode(self, prompts: list[list[int]], n: int, draw: Draw, uniform: torch.Tensor) -> list[Completion]:
        unique = {tuple(p): i for i, p in enumerate(dict.fromkeys(map(tuple, prompts)))}
        rows = torch.tensor([unique[tuple(p)] for p in prompts]).repeat_interleave(n)
        device = self.model.device
        ids, mask = left_pad([list(p) for p in unique])
        ids, mask, rows, uniform = ids.to(device), mask.to(device), rows.to(device), uniform.to(device)
        state = self.model(input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=True, logits_to_keep=1)
        cache, logits = state.past_key_values, state.logits[rows, -1]
        cache.batch_select_indices(rows)
        mask = mask[rows]
        total = len(rows)
        alive = torch.arange(total, device=device)
        tokens = torch.full((total, draw.max_tokens), -1, device=device)
        logps = torch.zeros((total, draw.max_tokens), device=device)
        end = torch.tensor(self.end_ids, device=device)
        for t in range(draw.max_tokens):
            token, logp = pick(logits, draw.temperature, uniform[alive, t])
            tokens[alive, t], logps[alive, t] = token, logp
            going = ~torch.isin(token, end)
            if t + 1 == draw.max_tokens or not going.any():
                break
            if not going.all():
                keep = going.nonzero()[:, 0]
                alive, token, mask = alive[keep], token[keep], mask[keep]
                cache.batch_select_indices(keep)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            state = self.model(
                input_ids=token[:, None],
                attention_mask=mask,
                position_ids=mask.sum(1, keepdim=True) - 1,
                past_key_values=cache,
                use_cache=True,
            )
            logits = state.logits[:, -1]
        return [self._completion(i, p) for i, p in zip(tokens.tolist(), logps.tolist(), strict=True)]

    def _completion(self, ids: list[int], logprobs: list[float]) -> Completion:
        length = ids.index(-1) if -1 in ids else len(ids)
        stopped = length > 0 and ids[length - 1] in self.end_ids
        return Completion(ids[:length], logprobs[:length], "stop" if stopped else "length")


def left_pad(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask [rows, longest], padded on the left."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(r)) + r for r in rows])
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])
    return ids, mask


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Position ids of a left-padded mask (0 at padding)."""
    return (mask.cumsum(1) - 1).clamp_min(0)


def pick(logits: torch.Tensor, temperature: float, uniform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [rows] drawn by inverting the cumulative distribution at `uniform`, and their log-probs [rows]; greedy at temperature 0."""
    logps = torch.log_softmax(logits.float() / (temperature or 1.0), -1)
    if temperature == 0:
        token = logps.argmax(-1)
    else:
        cumulative = logps.exp().double().cumsum(-1)
        token = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None]).squeeze(1).clamp_max(logits.shape[-1] - 1)
    return token, logps.gather(1, token[:, None]).squeeze(1)
