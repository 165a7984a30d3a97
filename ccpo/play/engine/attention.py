"""Attention that branches: rows that continue one prompt read its keys and values where they are,
once for all of them.

Registered with transformers under NAME; every model here computes with it (`prepare`). Without
branches it is torch's own attention, except for bfloat16 on CPUs, where plain matrix products are
several times as fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "ccpo"
# what some architectures ask of an attention besides
UNSUPPORTED: tuple[Literal["softcap", "s_aux", "sliding_window", "position_bias"], ...] = (
    "softcap",
    "s_aux",
    "sliding_window",
    "position_bias",
)


def prepare(model: PreTrainedModel) -> None:
    """Makes a model compute with this attention.

    Raises:
        ValueError: it cannot, or a layer does not see all tokens before it, so that padding and
        branches would disturb it.
    """
    layers = {type(layer).__name__ for layer in DynamicCache(config=model.config).layers}
    partial = sorted(layers - {DynamicLayer.__name__})
    if partial or not model._supports_attention_backend:
        reason = (
            f"{', '.join(partial)}: a sliding window or a recurrence"
            if partial
            else "an attention of its own"
        )
        raise ValueError(
            f"the model ({model.config.model_type}) has layers that do not attend to all tokens "
            f"as others do ({reason}), for which prompts "
            "cannot be shared. Remedy: a model with full attention, as Llama, Qwen2.5 or Qwen3."
        )
    model.set_attn_implementation(NAME)


@dataclass(frozen=True)
class Branches:
    """Prompts U, computed once, and the rows S that continue them.

    layers        of each the prompts' keys and values, float [U, heads, P, size]
    padding_bias  float [U, 1, 1, P], minus infinity where a prompt is padded; None where none is
    prompt        int [S] a row's prompt
    slot          int [S] its place among that prompt's rows
    rows          int [U, most] the row in a slot; any where there is none
    """

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    padding_bias: torch.Tensor | None
    prompt: torch.Tensor
    slot: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def make(
        cls,
        layers: list[tuple[torch.Tensor, torch.Tensor]],
        padding_bias: torch.Tensor | None,
        prompt: torch.Tensor,
    ) -> Branches:
        """Rows that continue prompts (`prompt` [S]); each prompt has one row at least."""
        order = prompt.argsort(stable=True)
        count = prompt.bincount()
        every_row = torch.arange(len(prompt), device=prompt.device)
        slot = torch.empty_like(prompt)
        slot[order] = every_row - (count.cumsum(0) - count)[prompt[order]]
        rows = prompt.new_zeros(len(count), int(count.max()))
        rows[prompt, slot] = every_row
        return cls(layers, padding_bias, prompt, slot, rows)

    def select(self, rows: torch.Tensor) -> Branches:
        """Those of a selection of the rows."""
        remaining, prompt = self.prompt[rows].unique(return_inverse=True)
        if len(remaining) == len(self.rows):
            return Branches.make(self.layers, self.padding_bias, prompt)
        layers = [(keys[remaining], values[remaining]) for keys, values in self.layers]
        bias = None if self.padding_bias is None else self.padding_bias[remaining]
        return Branches.make(layers, bias, prompt)

    def to_prompts(self, by_row: torch.Tensor) -> torch.Tensor:
        """Of rows [S, heads, group, X]: those of one prompt side by side [U, heads, most * group,
        X].
        """
        return by_row[self.rows].transpose(1, 2).flatten(2, 3)

    def to_rows(self, by_prompt: torch.Tensor) -> torch.Tensor:
        """The way back."""
        return by_prompt.unflatten(2, (self.rows.shape[1], -1))[self.prompt, :, self.slot]


class CompletionLayer(DynamicLayer):
    """Keys and values of one layer for the completions' tokens, with room for all of them: written
    in place, where a DynamicLayer copies all earlier ones for each new token.
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
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See DynamicLayer."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.length
        self.length = self.length + key_states.shape[-2]
        for space, new in zip(self.space, (key_states, value_states), strict=True):
            space[:, :, start : self.length] = new
        self._show()
        return keys_and_values(self)

    def _show(self) -> None:
        self.keys, self.values = (space[:, :, : self.length] for space in self.space)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """See DynamicLayer."""
        if self.is_initialized:
            self.space = [space[indices] for space in self.space]
            self._show()


def keys_and_values(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of a cache's layer."""
    return layer.keys, layer.values


def completion_cache(layers: int, room: int) -> Cache:
    """An empty cache for `room` tokens of each completion, beside prompts that Branches hold."""
    return Cache(layers=[CompletionLayer(room) for _ in range(layers)])


class Options(TypedDict, total=False):
    """What transformers and this module's callers pass to an attention beside its tensors."""

    scaling: float | None
    dropout: float
    branches: Branches | None
    softcap: float | None
    s_aux: torch.Tensor | None
    sliding_window: int | None
    position_bias: torch.Tensor | None


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Unpack[Options],
) -> tuple[torch.Tensor, None]:
    """What transformers asks of an attention: [rows, queries, heads, size] of query [rows, heads,
    queries, size], key and value.

    With `branches` there is one query for each row, and key and value are those of the completions'
    tokens behind their prompts.

    Raises:
        ValueError: the model asks for something that this attention does not compute.
    """
    if unsupported := [name for name in UNSUPPORTED if options.get(name) is not None]:
        raise ValueError(
            f"the model asks for {', '.join(unsupported)}, which its attention here has not. "
            "Remedy: a Llama, Qwen2.5 or Qwen3."
        )
    scaling = options.get("scaling")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    branches = options.pop("branches", None)
    if branches is not None:
        prompt = branches.layers[module.layer_idx]
        return _branching(query * scale, (key, value), prompt, branches), None
    if query.dtype == torch.bfloat16 and query.device.type == "cpu":
        dropout = options.get("dropout", 0.0)
        return _plain(query * scale, key, value, attention_mask, dropout), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


def _branching(
    query: torch.Tensor,
    completion: tuple[torch.Tensor, torch.Tensor],
    prompt: tuple[torch.Tensor, torch.Tensor],
    branches: Branches,
) -> torch.Tensor:
    """Attention to a prompt, computed for its rows together, and to each row's own tokens; one
    softmax over both.
    """
    key, value = completion
    query = query.squeeze(2).unflatten(1, (key.shape[1], -1))  # [S, heads of keys, group, size]
    to_prompt = branches.to_prompts(query) @ prompt[0].transpose(2, 3)
    if branches.padding_bias is not None:
        to_prompt = to_prompt + branches.padding_bias
    to_own = query @ key.transpose(2, 3)
    score = torch.cat([branches.to_rows(to_prompt), to_own], -1)
    weight = score.softmax(-1, dtype=torch.float32).to(value.dtype)
    prompt_weight, own_weight = weight.split([to_prompt.shape[-1], to_own.shape[-1]], -1)
    from_prompt = branches.to_rows(branches.to_prompts(prompt_weight) @ prompt[1])
    output = from_prompt + own_weight @ value
    return output.flatten(1, 2)[:, None]


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
    weight = torch.nn.functional.dropout(
        score.softmax(-1, dtype=torch.float32).to(value.dtype), dropout
    )
    out = weight.unflatten(1, (key.shape[1], -1)).flatten(2, 3) @ value
    return out.view(-1, heads, queries, value.shape[-1]).transpose(1, 2).contiguous()


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
