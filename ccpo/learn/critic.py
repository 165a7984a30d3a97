"""A critic: estimates of the outcome from the messages so far, learnt in the loop.

It has a body of its own, which starts as the model that training starts with, or as another model,
and a linear value head, which starts at zero. Both learn as policies do: with float32 weights,
whatever the model's. A text is a list of token ids; its value is read at the last token, of a body
that reads in both directions at the first.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ccpo.config import Critic as Settings
from ccpo.learn.optimisers import AdamWSettings, Plain
from ccpo.play.engine.batching import Bounds, RowSizes, pack, right_pad

BOUNDS = Bounds(tokens=1 << 14, logits=0)


@dataclass(frozen=True)
class Body:
    """What a critic reads with: a model without its head; its own `tokenizer`, or None where it
    reads the tokens of the policies; and whether it is `causal`, or reads in both directions.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None = None
    causal: bool = True

    @classmethod
    def of_policy(cls, model: PreTrainedModel) -> Body:
        """A copy of a policy's."""
        return cls(copy.deepcopy(cast(PreTrainedModel, model.base_model)))


class Critic:
    """Body, head and optimiser.

    kind "context": the value is a number, learnt by the squared error of PPO with value clipping
    (arXiv 1707.06347; C3's MAPPO, arXiv
    2603.06859, clip 0.5). kind "message": it is a probability of success, learnt by cross-entropy
    (C3's Q-critic).
    """

    def __init__(self, body: Body, kind: Literal["context", "message"], settings: Settings) -> None:
        self.kind = kind
        self.settings = settings
        self.body = body
        self.context = int(body.model.config.max_position_embeddings)
        self.network = _Network(body)
        self.optimiser = Plain(self.network, AdamWSettings(lr=settings.lr))

    def reads(
        self, prompt: list[int], completion: list[int], tokenizer: PreTrainedTokenizerBase
    ) -> list[int]:
        """The tokens that it reads of a message: its context, or the message too; the last ones,
        where that is longer than the body's own context. Where it has a tokenizer of its own, what
        these tokens spell is read anew, the chat's marks as text.

        tokenizer: that of the policy which wrote the message.
        """
        token_ids = prompt + completion if self.kind == "message" else prompt
        own = self.body.tokenizer
        if own is None:
            return token_ids[-self.context :]
        text = tokenizer.decode(token_ids, skip_special_tokens=False)
        read: list[int] = own(text)["input_ids"]
        if len(read) <= self.context:
            return read
        return [*read[:1], *read[1 - self.context :]]  # the first is what a value is read at

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        weights, moments = self.optimiser.state()
        return {"weights": weights, "moments": moments}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Goes on from `state_dict`."""
        self.optimiser.load(saved["weights"], saved["moments"])

    def _scores(self, texts: Sequence[list[int]]) -> torch.Tensor:
        """Head outputs [S]: values, or logits."""
        token_ids, length = right_pad(texts, self.network.head.weight.device)
        scores: torch.Tensor = self.network(token_ids, length)
        return scores

    @torch.no_grad()
    def values(self, texts: Sequence[list[int]]) -> np.ndarray:
        """Estimates [S] of the outcome in [0, 1] ("message") or of the return ("context"). Equal
        texts are computed once.
        """
        index = {text: i for i, text in enumerate(dict.fromkeys(map(tuple, texts)))}
        distinct = [list(text) for text in index]
        estimates = np.empty(len(distinct))
        for rows in batches(distinct):
            scores = self._scores([distinct[i] for i in rows])
            values = scores.sigmoid() if self.kind == "message" else scores
            estimates[rows] = values.cpu().numpy()
        return estimates[[index[tuple(text)] for text in texts]]

    def fit(self, texts: Sequence[list[int]], before: np.ndarray, targets: np.ndarray) -> float:
        """Moves the values of the texts, which were `before` [S], towards `targets` [S]; returns
        the root mean squared error before.

        Raises:
            ValueError: the gradient is not finite.
        """
        for _ in range(self.settings.steps):
            for rows in batches(texts):
                batch = [texts[i] for i in rows]
                loss = functools.partial(
                    self._batch_loss, batch, before[rows], targets[rows], len(texts)
                )
                self.optimiser.backward(loss)
            norm = self.optimiser.step(self.settings.lr)
            if not np.isfinite(norm):
                raise ValueError(
                    f"critic: gradient norm is {norm}. The last checkpoint is untouched; "
                    "lower critic.lr."
                )
        return float(np.sqrt(np.mean((before - targets) ** 2)))

    def _batch_loss(
        self,
        texts: Sequence[list[int]],
        before: np.ndarray,
        targets: np.ndarray,
        divisor: int,
        network: torch.nn.Module,
    ) -> tuple[torch.Tensor, None]:
        """A batch's part of the mean loss over `divisor` texts."""
        scores = self._scores(texts)
        old = torch.tensor(before, dtype=scores.dtype, device=scores.device)
        target = torch.tensor(targets, dtype=scores.dtype, device=scores.device)
        return self._loss(scores, old, target) / divisor, None

    def _loss(self, scores: torch.Tensor, old: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if self.kind == "message":
            return torch.nn.functional.binary_cross_entropy_with_logits(
                scores, target, reduction="sum"
            )
        clipped = old + (scores - old).clamp(-self.settings.clip, self.settings.clip)
        return torch.maximum((scores - target) ** 2, (clipped - target) ** 2).sum() / 2


class _Network(torch.nn.Module):
    """A body, and a value head in float32 that starts at zero."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body.model.train()
        self.causal = body.causal
        self.head = torch.nn.Linear(
            body.model.config.hidden_size, 1, dtype=torch.float32, device=body.model.device
        )
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, token_ids: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """Head outputs [S] of right-padded rows [S, T]: at the last token, where attention is
        causal, so that the padding needs no mask; else at the first.
        """
        if not self.causal:
            columns = torch.arange(token_ids.shape[1], device=token_ids.device)
            mask = (columns < length[:, None]).long()
            hidden = self.body(input_ids=token_ids, attention_mask=mask).last_hidden_state
            return self.head(hidden[:, 0].float())[:, 0]
        hidden = self.body(input_ids=token_ids, use_cache=False).last_hidden_state
        rows = torch.arange(len(token_ids), device=hidden.device)
        return self.head(hidden[rows, length - 1].float())[:, 0]


def batches(texts: Sequence[list[int]]) -> list[np.ndarray]:
    """Indices of the texts in batches of similar length, bounded in padded tokens."""
    length = np.array([len(text) for text in texts], dtype=np.int64)
    return pack(RowSizes.separate(length, np.zeros_like(length)), BOUNDS)[0]
