"""Baselines and normalisations, from credit to advantage: one file each, found by its name. This
file holds only the contract.

An advantage file has
  VERSION
      a whole number, bumped when its numbers change on purpose
  COMPARES
      what a message is compared with: "nothing", its "group", the "batch", the "memory" of earlier
      batches, or a "critic"
  advantage(messages, **params) -> [M]
      pure numpy; 0 for messages that are not trained. params are keyword-only and are the config
      schema. The docstring gives formula and source, and says what it divides by
One that remembers earlier batches also has
  remember(messages, memory, **params) -> memory
      its statistics (name -> number, {} at the start) once this batch is seen;
      `advantage(messages, memory, **params)` gets those from before its batch
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from ccpo.contract import Contract

CONTRACT = Contract(
    constants={"VERSION": int, "COMPARES": ("nothing", "group", "batch", "memory", "critic")},
    functions={"advantage": ("messages",)},
    schema="advantage",
    accepts=("remember",),
    docstring={
        "Source:": "`Source: <paper, equation>`",
        "ivides by": "`Divides by <what, or nothing>`",
    },
)


@dataclass(frozen=True)
class Messages:
    """What an advantage is made from: of M messages the credit [M], the group [M] (-1: not
    trained), and where they are known the generated tokens [M] and a critic's estimate of the
    credit [M] (NaN: none).
    """

    credit: np.ndarray
    group: np.ndarray
    tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    value: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def trained(self) -> np.ndarray:
        """Which messages [M] are trained."""
        return self.group >= 0


def names() -> list[str]:
    """Names of all advantages: the files of this folder."""
    return sorted(file.name for file in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The advantage file of this name; `names()` says which exist."""
    return CONTRACT.require(importlib.import_module(f"{__name__}.{name}"))


def compute(
    name: str, messages: Messages, memory: Mapping[str, float] | None = None, **params: Any
) -> np.ndarray:
    """The advantage [M] of this name; `memory` goes to those that have one."""
    module = load(name)
    before = (memory or {},) if hasattr(module, "remember") else ()
    advantage: np.ndarray = module.advantage(messages, *before, **params)
    return advantage


def sums(values: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and count of `values` [K] by `group` [K], both [groups]."""
    n = int(group.max(initial=-1)) + 1
    return np.bincount(group, values, n), np.bincount(group, minlength=n)


def centred(credit: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Credit [M] less the mean of its group [M]; 0 where the group is -1."""
    out = np.zeros(len(credit))
    used = group >= 0
    total, count = sums(credit[used], group[used])
    out[used] = credit[used] - (total / np.maximum(count, 1))[group[used]]
    return out


def role_information(advantage: np.ndarray, shared: np.ndarray, group: np.ndarray) -> float:
    """Share of the advantage's variance inside groups that no affine image of the shared advantage
    explains, in [0, 1].

    For each group the best a * shared + b is taken out; what is left is summed over groups and
    divided by the whole. 0 means that the method teaches exactly what the shared reward teaches, up
    to a weight for each group. 0 also where the advantage is 0 throughout.
    """
    used = group >= 0
    x = centred(shared, group)[used]
    y = centred(advantage, group)[used]
    g = group[used]
    n = int(g.max(initial=-1)) + 1
    xx = np.bincount(g, x * x, n)
    xy = np.bincount(g, x * y, n)
    yy = np.bincount(g, y * y, n)
    slope = np.where(xx > 1e-24, xy / np.maximum(xx, 1e-300), 0.0)
    left = ((y - slope[g] * x) ** 2).sum()
    whole = yy.sum()
    return float(left / whole) if whole > 1e-24 else 0.0
