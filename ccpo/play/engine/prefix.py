"""What several prompts begin with is computed once: the prompts of one task share its question,
siblings share all.

A shared prefix is what the prompts of a group have in common, never all of one, so that something
is left of each. Its keys and values are computed once and copied to the group's rows, which go on
from there (`prefill`). Engine and trainer use the same: gradients flow through it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from ccpo.play.engine.batching import right_pad, token_mask

# share of the computed tokens that must be saved: below it, computing in two steps costs more
WORTHWHILE = 0.2


@dataclass(frozen=True)
class SharedPrefixes:
    """Groups of prompts that begin alike.

    group   int [prompts] the group of each prompt
    length  int [groups] how many tokens all prompts of a group begin with
    """

    group: np.ndarray
    length: np.ndarray

    @property
    def saved(self) -> int:
        """Tokens that need not be computed."""
        return int(((np.bincount(self.group) - 1) * self.length).sum())

    def select(self, prompts: np.ndarray) -> SharedPrefixes:
        """The groups of a selection of the prompts."""
        groups, group = np.unique(self.group[prompts], return_inverse=True)
        return SharedPrefixes(group, self.length[groups])


def find_shared(prompts: Sequence[list[int]]) -> SharedPrefixes:
    """Groups of prompts that begin alike. In alphabetical order they are cut wherever neighbours
    share less than a number of tokens; that number is the one which saves the most.
    """
    order = sorted(range(len(prompts)), key=lambda i: prompts[i])
    longest = np.array([len(prompts[i]) - 1 for i in order])
    common = np.array(
        [_common(prompts[a], prompts[b]) for a, b in itertools.pairwise(order)], dtype=np.int64
    )
    best = SharedPrefixes(np.arange(len(prompts)), np.array([len(p) - 1 for p in prompts]))
    for cut in np.unique(common[common > 0]):
        apart = common < cut
        sorted_group = np.concatenate([[0], np.cumsum(apart)])
        length = np.full(sorted_group[-1] + 1, longest.max())
        np.minimum.at(length, sorted_group, longest)
        np.minimum.at(length, sorted_group[1:][~apart], common[~apart])
        group = np.empty(len(prompts), dtype=np.int64)
        group[order] = sorted_group
        best = max(best, SharedPrefixes(group, length), key=lambda prefixes: prefixes.saved)
    return best


def _common(a: list[int], b: list[int]) -> int:
    """How many tokens two prompts begin with in common."""
    if a == b:
        return len(a)
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


@dataclass(frozen=True)
class Prefilled:
    """Rows [S] after a forward pass.

    hidden  float [S, R, H] hidden states of each row behind its shared prefix, padded on the right
    start   int   [S] the length of that prefix
    length  int   [S] tokens of the row behind it
    mask    bool  [S, P + R] which keys are tokens (prefixes, too, are padded on the right)
    """

    hidden: torch.Tensor
    start: torch.Tensor
    length: torch.Tensor
    mask: torch.Tensor


def prefill(
    model: PreTrainedModel,
    rows: Sequence[list[int]],
    shared: SharedPrefixes | None,
    cache: Cache | None = None,
) -> Prefilled:
    """Hidden states of rows of token ids. With shared prefixes, an (empty) `cache` holds these once
    while they are computed, and is then copied to the rows.

    Padding on the right needs no mask where attention is causal; behind a prefix it does.
    """
    if shared is None:
        token_ids, length = right_pad(rows, model.device)
        hidden = model.base_model(
            input_ids=token_ids, past_key_values=cache, use_cache=cache is not None
        ).last_hidden_state
        mask = token_mask(length, token_ids.shape[1])
        return Prefilled(hidden, torch.zeros_like(length), length, mask)
    if cache is None:
        raise ValueError("prefill: shared prefixes need a cache. Remedy: give an empty one.")
    first_row = {int(g): i for i, g in reversed(list(enumerate(shared.group)))}
    prefixes = [rows[first_row[g]][:n] for g, n in enumerate(shared.length)]
    token_ids, prefix_length = right_pad(prefixes, model.device)
    model.base_model(input_ids=token_ids, past_key_values=cache, use_cache=True)
    group = torch.from_numpy(shared.group).to(model.device)
    cache.batch_select_indices(group)
    start = prefix_length[group]
    prefix_mask = token_mask(prefix_length, token_ids.shape[1])[group]
    suffixes = [row[shared.length[g] :] for row, g in zip(rows, shared.group, strict=True)]
    token_ids, length = right_pad(suffixes, model.device)
    width = token_ids.shape[1]
    mask = torch.cat([prefix_mask, token_mask(length, width)], 1)
    output = model.base_model(
        input_ids=token_ids,
        attention_mask=mask,
        position_ids=start[:, None] + torch.arange(width, device=model.device),
        past_key_values=cache,
        use_cache=True,
    )
    return Prefilled(output.last_hidden_state, start, length, mask)
