"""From hidden states to logits, by the model's own forward: some models scale their logits
(Granite, Cohere) or cap them (Gemma 2) after the head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast


@dataclass
class _BodyOutput(MoeModelOutputWithPast):
    """All that any model reads of its body's output."""

    cross_attentions: tuple[torch.Tensor, ...] | None = None


def logits(model: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    """Logits [K, V] of last hidden states [K, H]: all that the model does behind its body."""
    token_ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
    with _body_returns(model, hidden[None]):
        return model(input_ids=token_ids, use_cache=False).logits[0]


@contextmanager
def _body_returns(model: PreTrainedModel, hidden: torch.Tensor) -> Iterator[None]:
    """Inside, the model's body computes nothing and returns these hidden states."""
    body = model.base_model

    def forward(*_: object, **__: object) -> _BodyOutput:
        return _BodyOutput(last_hidden_state=hidden)

    body.forward = forward
    try:
        yield
    finally:
        del body.forward
