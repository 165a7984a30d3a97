"""Influence of a message: the mutual information, in nats, of the choice among the candidates of a
context and the class of the team's answer.

    I(J; Y | h) = H(Y | h) - mean_j H(Y | h, j)

Each entropy has the correction of Miller and Madow (1955), (classes seen - 1) / (2 draws); what is
left of the bias of few draws is what the corrected number is on average once outcomes are shuffled
among the candidates of a context, and is taken off. So a message that nobody heeds has influence 0
on average exactly; a message that is heeded has a little more than it is said to have. Its p is
that of the shuffling, its standard error is over tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ccpo.publish.probe_statistics import Influence

SHUFFLES = 200


def influence(answer: np.ndarray, task: np.ndarray, rng: np.random.Generator) -> Influence:
    """Of classes [C, n, m] of the team's answer, by context, candidate and replay; task [C]."""
    codes = _recoded(answer)
    observed = _information(codes)
    contexts, n, m = codes.shape
    flat = codes.reshape(contexts, n * m)
    nulls = [_information(rng.permuted(flat, axis=1).reshape(codes.shape)) for _ in range(SHUFFLES)]
    plug_in = float(observed.plug_in.mean())
    null_plug_in = np.array([null.plug_in.mean() for null in nulls])
    by_context = observed.corrected - np.mean([null.corrected for null in nulls], axis=0)
    by_task = np.array([by_context[task == t].mean() for t in np.unique(task)])
    error = by_task.std(ddof=1) / np.sqrt(len(by_task)) if len(by_task) > 1 else 0.0
    return Influence(
        value=float(by_task.mean()),
        error=float(error),
        plug_in=plug_in,
        null=float(null_plug_in.mean()),
        floor=float(np.quantile(null_plug_in, 0.95) - null_plug_in.mean()),
        p=float(((null_plug_in >= plug_in - 1e-12).sum() + 1) / (SHUFFLES + 1)),
        entropy=float(observed.entropy.mean()),
    )


@dataclass(frozen=True)
class _Information:
    """Of each context [C]: information by counting, corrected for its bias, and the answer's
    entropy.
    """

    plug_in: np.ndarray
    corrected: np.ndarray
    entropy: np.ndarray


def _recoded(answer: np.ndarray) -> np.ndarray:
    """Classes numbered from 0 inside each context."""
    out = np.empty_like(answer)
    for c, own in enumerate(answer):
        out[c] = np.unique(own, return_inverse=True)[1].reshape(own.shape)
    return out


def _information(codes: np.ndarray) -> _Information:
    counts = (codes[..., None] == np.arange(int(codes.max()) + 1)).sum(axis=2)  # [C, n, classes]
    whole = counts.sum(axis=1)
    of_whole = entropy(whole)
    of_each = entropy(counts)
    corrected = of_whole + _bias(whole) - (of_each + _bias(counts)).mean(axis=1)
    return _Information(of_whole - of_each.mean(axis=1), corrected, of_whole + _bias(whole))


def entropy(counts: np.ndarray) -> np.ndarray:
    """Entropy in nats of counts over the last axis, by counting."""
    shares = counts / counts.sum(axis=-1, keepdims=True)
    return np.asarray(-(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=-1))


def _bias(counts: np.ndarray) -> np.ndarray:
    """What counting misses on average, to the first order."""
    return np.asarray(((counts > 0).sum(axis=-1) - 1) / (2 * counts.sum(axis=-1)))
