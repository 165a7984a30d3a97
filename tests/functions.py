"""Advantages and objectives as plain functions of arrays, for tests that compare their numbers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ccpo import advantage, objective
from ccpo.advantage import Messages


def _advantage(
    name: str,
    credit: np.ndarray,
    group: np.ndarray,
    tokens: np.ndarray | None = None,
    *,
    value: np.ndarray | None = None,
    memory: Mapping[str, float] | None = None,
    **params: Any,
) -> np.ndarray:
    columns = {k: v for k, v in (("tokens", tokens), ("value", value)) if v is not None}
    return advantage.compute(name, Messages(credit, group, **columns), memory, **params)


def _loss(
    name: str,
    new: torch.Tensor,
    old: torch.Tensor,
    a: torch.Tensor,
    mask: torch.Tensor,
    **params: Any,
) -> Any:
    return objective.load(name).loss(objective.Batch(new, old, a, mask), **params)


ADVANTAGES = {name: functools.partial(_advantage, name) for name in advantage.names()}
GROUPED = [name for name in advantage.names() if advantage.load(name).COMPARES == "group"]
OBJECTIVES = {name: functools.partial(_loss, name) for name in objective.names()}
group_mean, group_z, leave_one_out = (
    ADVANTAGES[name] for name in ("group_mean", "group_z", "leave_one_out")
)
batch_whiten, history, gae = (ADVANTAGES[name] for name in ("batch_whiten", "history", "gae"))
