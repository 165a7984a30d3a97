"""What several prompts begin with is computed once: the prompts of one task share its question,
siblings share all.

A trunk is what the prompts of a group have in common, never all of one, so that something is left
of each. Its keys and values are computed once and branched to the group's rows, which go on from
there (`enter`). Engine and trainer use the same: gradients flow through it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

# share of the computed tokens that must be saved: below it, computing in two steps costs more
WORTH = 0.2


@dataclass(frozen=True)
class Trunks:
    """Groups of prompts: `of[i]` is the group of prompt i, `length[g]` the number of tokens that
    its prompts begin with.
    """

    of: np.ndarray
    length: np.ndarray

    @property
    def saved(self) -> int:
        """Tokens that need not be computed."""
        return int(((np.bincount(self.of) - 1) * self.length).sum())

    def some(self, rows: np.ndarray) -> Trunks:
        """Those of some of the prompts."""
        groups, of = np.unique(self.of[rows], return_inverse=True)
        return Trunks(of, self.length[groups])


def trunks(prompts: Sequence[list[int]]) -> Trunks:
    """Groups of prompts that begin alike. In alphabetical order they are cut wherever neighbours
    share less than a number of tokens; that number is the one which saves the most.
    """
    order = sorted(range(len(prompts)), key=lambda i: prompts[i])
    longest = np.array([len(prompts[i]) - 1 for i in order])
    common = np.array(
        [_common(prompts[a], prompts[b]) for a, b in itertools.pairwise(order)], dtype=np.int64
    )
    best = Trunks(np.arange(len(prompts)), np.array([len(p) - 1 for p in prompts]))
    for cut in np.unique(common[common > 0]):
        apart = common < cut
        group = np.concatenate([[0], np.cumsum(apart)])
        length = np.full(group[-1] + 1, longest.max())
        np.minimum.at(length, group, longest)
        np.minimum.at(length, group[1:][~apart], common[~apart])
        of = np.empty(len(prompts), dtype=np.int64)
        of[order] = group
        best = max(best, Trunks(of, length), key=lambda found: found.saved)
    return best


def _common(a: list[int], b: list[int]) -> int:
    """How many tokens two prompts begin with in common."""
    if a == b:
        return len(a)
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


@dataclass(frozen=True)
class Entered:
    """Rows [S] after a forward pass.

    hidden  float [S, R, H] hidden states of what is left of each row behind its trunk, padded on
            the right
    start   int   [S] where that begins in the row
    length  int   [S] its tokens
    mask    bool  [S, P + R] which keys are tokens (trunks, too, are padded on the right)
    """

    hidden: torch.Tensor
    start: torch.Tensor
    length: torch.Tensor
    mask: torch.Tensor


def enter(
    model: Any, rows: Sequence[list[int]], shared: Trunks | None, cache: Any = None
) -> Entered:
    """Hidden states of rows of token ids. Where they have trunks, an (empty) `cache` holds these
    once, then branched, with the rows behind.

    Padding on the right needs no mask where attention is causal; behind a trunk it does.
    """
    if shared is None:
        ids, length = right_pad(rows, model.device)
        hidden = model.base_model(
            input_ids=ids, past_key_values=cache, use_cache=cache is not None
        ).last_hidden_state
        return Entered(hidden, torch.zeros_like(length), length, _tokens(length, ids.shape[1]))
    first = {int(g): i for i, g in reversed(list(enumerate(shared.of)))}
    ids, length = right_pad(
        [rows[first[g]][: shared.length[g]] for g in range(len(shared.length))], model.device
    )
    model.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
    of = torch.from_numpy(shared.of).to(model.device)
    cache.batch_select_indices(of)
    start = length[of]
    trunk = _tokens(length, ids.shape[1])[of]
    ids, length = right_pad(
        [row[shared.length[g] :] for row, g in zip(rows, shared.of, strict=True)], model.device
    )
    mask = torch.cat([trunk, _tokens(length, ids.shape[1])], 1)
    place = start[:, None] + torch.arange(ids.shape[1], device=model.device)
    out = model.base_model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=place,
        past_key_values=cache,
        use_cache=True,
    )
    return Entered(out.last_hidden_state, start, length, mask)


def right_pad(rows: Sequence[list[int]], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [rows, longest], padded on the right, and the rows' lengths."""
    width = max(map(len, rows))
    return torch.tensor([[*r, *[0] * (width - len(r))] for r in rows], device=device), torch.tensor(
        [len(r) for r in rows], device=device
    )


def _tokens(length: torch.Tensor, width: int) -> torch.Tensor:
    """Which of `width` places are tokens [rows, width]."""
    return torch.arange(width, device=length.device)[None] < length[:, None]
