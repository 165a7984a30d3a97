"""Attention that branches: rows that continue one prompt read its keys and values where they are,
once for all of them.

Registered with transformers under NAME; every model of ours computes with it (`prepare`). Without
branches it is torch's own attention, but for bfloat16 on CPUs, where plain matrix products are
several times as fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import dropout as dropped
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "ccpo"
# what some architectures ask of an attention besides
ODD = (
    "softcap",
    "s_aux",
    "sliding_window",
    "position_bias",
)


def prepare(model: Any) -> None:
    """Makes a model compute with this attention.

    Raises:
        ValueError: it cannot, or a layer does not see all tokens before it, so that padding and
            branches would disturb it.
    """
    odd = {type(layer).__name__ for layer in DynamicCache(config=model.config).layers} - {
        DynamicLayer.__name__
    }
    if odd or not model._supports_attention_backend:
        why = (
            f"{', '.join(sorted(odd))}: a sliding window or a recurrence"
            if odd
            else "an attention of its own"
        )
        raise ValueError(
            f"the model ({model.config.model_type}) has layers that do not attend to all tokens "
            f"as others do ({why}), for which prompts "
            "cannot be shared. Remedy: a model with full attention, as Llama, Qwen2.5 or Qwen3."
        )
    model.set_attn_implementation(NAME)


@dataclass(frozen=True)
class Branches:
    """Prompts U, computed once, and the rows S that continue them.

    layers  of each the prompts' keys and values, float [U, heads, P, size]
    hide    float [U, 1, 1, P], minus infinity where a prompt is padded; None where none is
    of      int [S] a row's prompt
    place   int [S] its place among that prompt's rows
    rows    int [U, most] the row at a place; any where there is none
    """

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    hide: torch.Tensor | None
    of: torch.Tensor
    place: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def make(
        cls,
        layers: list[tuple[torch.Tensor, torch.Tensor]],
        hide: torch.Tensor | None,
        of: torch.Tensor,
    ) -> Branches:
        """Rows `of` prompts; each prompt has one at least."""
        order = of.argsort(stable=True)
        count = of.bincount()
        every = torch.arange(len(of), device=of.device)
        place = torch.empty_like(of)
        place[order] = every - (count.cumsum(0) - count)[of[order]]
        rows = of.new_zeros(len(count), int(count.max()))
        rows[of, place] = every
        return cls(layers, hide, of, place, rows)

    def some(self, rows: torch.Tensor) -> Branches:
        """Those of some of the rows."""
        left, of = self.of[rows].unique(return_inverse=True)
        if len(left) == len(self.rows):
            return Branches.make(self.layers, self.hide, of)
        layers = [(keys[left], values[left]) for keys, values in self.layers]
        return Branches.make(layers, None if self.hide is None else self.hide[left], of)

    def together(self, apart: torch.Tensor) -> torch.Tensor:
        """Of rows [S, heads, group, X]: those of one prompt side by side [U, heads, most * group,
        X].
        """
        return apart[self.rows].transpose(1, 2).flatten(2, 3)

    def apart(self, together: torch.Tensor) -> torch.Tensor:
        """The way back."""
        return together.unflatten(2, (self.rows.shape[1], -1))[self.of, :, self.place]


class Tail(DynamicLayer):
    """Keys and values of what rows say, with room for all of it: written in place, where a
    DynamicLayer copies all that was said before.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """See DynamicLayer."""
        super().lazy_initialization(key_states, value_states)
        self.space = [
            new.new_empty(*new.shape[:2], self.room, new.shape[-1])
            for new in (key_states, value_states)
        ]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See DynamicLayer."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.length
        self.length = self.length + key_states.shape[-2]
        for space, new in zip(self.space, (key_states, value_states), strict=True):
            space[:, :, start : self.length] = new
        self._show()
        return held(self)

    def _show(self) -> None:
        self.keys, self.values = (space[:, :, : self.length] for space in self.space)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """See DynamicLayer."""
        if self.is_initialized:
            self.space = [space[indices] for space in self.space]
            self._show()


def held(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of a cache's layer."""
    return layer.keys, layer.values


def tails(layers: int, room: int) -> Cache:
    """An empty cache for what rows say behind their prompts."""
    return Cache(layers=[Tail(room) for _ in range(layers)])


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    branches: Branches | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers asks of an attention: [rows, queries, heads, size] of query [rows, heads,
    queries, size], key and value.

    With `branches` there is one query for each row, and key and value are of what rows said behind
    their prompts.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if odd := [name for name in ODD if others.get(name) is not None]:
        raise ValueError(
            f"the model asks for {', '.join(odd)}, which its attention here has not. Remedy: a "
            "Llama, Qwen2.5 or Qwen3."
        )
    if branches is not None:
        return _branching(
            query * scale, key, value, branches.layers[module.layer_idx], branches
        ), None
    if query.dtype == torch.bfloat16 and query.device.type == "cpu":
        return _plain(query * scale, key, value, attention_mask, dropout), None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
    )


def _branching(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    prompt: tuple[torch.Tensor, torch.Tensor],
    to: Branches,
) -> torch.Tensor:
    """Attention to a prompt, computed for its rows together, and to what each row said; one softmax
    over both.
    """
    query = query.squeeze(2).unflatten(1, (key.shape[1], -1))  # [S, heads of keys, group, size]
    far = to.together(query) @ prompt[0].transpose(2, 3)
    if to.hide is not None:
        far = far + to.hide
    near = query @ key.transpose(2, 3)
    weight = torch.cat([to.apart(far), near], -1).softmax(-1, dtype=torch.float32).to(value.dtype)
    far, near = weight.split([far.shape[-1], near.shape[-1]], -1)
    out = to.apart(to.together(far) @ prompt[1]) + near @ value
    return out.flatten(1, 2)[:, None]


def _plain(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
) -> torch.Tensor:
    """Attention in matrix products; queries that share keys side by side."""
    heads = query.shape[1]
    queries = query.shape[2]
    keys = key.shape[2]
    side = query.unflatten(1, (key.shape[1], -1)).flatten(2, 3)
    score = (side @ key.transpose(2, 3)).view(-1, heads, queries, keys)
    if mask is None and queries > 1:  # what says nothing is causal
        mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
    if mask is not None:
        score = score.masked_fill(~mask, -torch.inf)
    weight = dropped(score.softmax(-1, dtype=torch.float32).to(value.dtype), dropout)
    out = weight.unflatten(1, (key.shape[1], -1)).flatten(2, 3) @ value
    return out.view(-1, heads, queries, value.shape[-1]).transpose(1, 2).contiguous()


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
