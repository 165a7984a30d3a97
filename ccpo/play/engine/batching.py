"""Rows of token ids as tensors, and which rows are computed together: of similar length, bounded
in tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch


def right_pad(
    rows: Sequence[list[int]], device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [rows, longest], padded on the right with 0, and the rows' lengths [rows]."""
    width = max(map(len, rows))
    token_ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    return token_ids, torch.tensor([len(row) for row in rows], device=device)


def token_mask(lengths: torch.Tensor, width: int) -> torch.Tensor:
    """bool [rows, width]: which places of right-padded rows hold tokens."""
    return torch.arange(width, device=lengths.device)[None] < lengths[:, None]


@dataclass(frozen=True)
class RowSizes:
    """How much computing each of S rows takes, in tokens, all int [S].

    length       tokens of the row
    with_logits  of these such whose logits are computed
    group        rows of one group begin with the same tokens, which are computed once a batch
    prefix       how many tokens that are; 0: nothing is shared
    """

    length: np.ndarray
    with_logits: np.ndarray
    group: np.ndarray
    prefix: np.ndarray

    @classmethod
    def separate(cls, length: np.ndarray, with_logits: np.ndarray) -> RowSizes:
        """Rows that share nothing."""
        return cls(length, with_logits, np.arange(len(length)), np.zeros_like(length))

    @property
    def suffix(self) -> np.ndarray:
        """int [S]: tokens behind the shared prefix."""
        return self.length - self.prefix


@dataclass(frozen=True)
class Bounds:
    """The largest batch: tokens, padding included, and tokens with logits."""

    tokens: int
    logits: int


@dataclass
class _Batch:
    """A batch while it is filled: its rows, and the sizes that its cost depends on."""

    rows: list[int] = field(default_factory=list)
    groups: set[int] = field(default_factory=set)
    longest_prefix: int = 0
    longest_suffix: int = 0
    with_logits: int = 0

    def add(self, row: int, sizes: RowSizes, suffix: int) -> None:
        self.rows.append(row)
        self.groups.add(int(sizes.group[row]))
        self.longest_prefix = max(self.longest_prefix, int(sizes.prefix[row]))
        self.longest_suffix = max(self.longest_suffix, suffix)
        self.with_logits += int(sizes.with_logits[row])

    def takes(self, row: int, sizes: RowSizes, suffix: int, bounds: Bounds) -> bool:
        """Whether one more row stays within the bounds. A prefix's keys and values are copied to
        each row, which is counted as an eighth of computing them.
        """
        rows = len(self.rows) + 1
        groups = len(self.groups) + (int(sizes.group[row]) not in self.groups)
        prefix = max(self.longest_prefix, int(sizes.prefix[row]))
        tokens = groups * prefix + rows * max(self.longest_suffix, suffix) + rows * prefix // 8
        logits = self.with_logits + int(sizes.with_logits[row])
        return tokens <= bounds.tokens and logits <= bounds.logits

    @property
    def cost(self) -> int:
        """Tokens that are computed, padding included."""
        return len(self.groups) * self.longest_prefix + len(self.rows) * self.longest_suffix


def pack(sizes: RowSizes, bounds: Bounds) -> tuple[list[np.ndarray], int]:
    """Indices of rows in batches of similar length, groups side by side, and the tokens that all
    batches compute together. A row that exceeds the bounds alone is a batch of its own.
    """
    if not len(sizes.length):
        return [], 0
    suffix = sizes.suffix
    longest = np.zeros(sizes.group.max() + 1, dtype=np.int64)
    np.maximum.at(longest, sizes.group, suffix)
    order = np.lexsort((suffix, sizes.group, sizes.prefix, longest[sizes.group]))
    batches: list[_Batch] = []
    for row in order.tolist():
        size = int(suffix[row])
        if not batches or not batches[-1].takes(row, sizes, size, bounds):
            batches.append(_Batch())
        batches[-1].add(row, sizes, size)
    return [np.array(batch.rows) for batch in batches], sum(batch.cost for batch in batches)
