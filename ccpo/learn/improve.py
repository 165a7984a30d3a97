"""Optimiser steps: from messages with advantages to a better policy, in micro-batches whose sum has
exactly the gradient of one batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ccpo import objective
from ccpo.config import RunConfig
from ccpo.learn import canary
from ccpo.learn.optimiser import Optimiser
from ccpo.models import policy
from ccpo.play.engine.prefix import WORTH, Trunks, trunks
from ccpo.play.rollout import Played, stream
from ccpo.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Batch:
    """Messages that are computed together, and what their prompts begin with in common, where that
    is computed once.
    """

    rows: np.ndarray
    shared: Trunks | None

    def one(self) -> Batch:
        """The first message alone, computed in as many steps: ranks that gather weights for each
        step stay together.
        """
        return Batch(self.rows[:1], self.shared and self.shared.some(np.array([0])))


def improve(
    run: RunConfig,
    index: int,
    model: Any,
    optimiser: Optimiser,
    reference: Any,
    played: Played,
    advantage: np.ndarray,
    chosen: np.ndarray,
    step: int,
    ranks: Ranks = ALONE,
) -> tuple[dict[str, float], list[float]]:
    """Optimiser steps of policy `index` on the chosen messages; returns loss, gradient norm, clip
    fraction, entropy and log-prob gap, and the counts of tokens by importance ratio
    (`canary.RATIOS`).

    `advantage` [M] is of all messages, `chosen` the indices of those this policy learns from,
    `reference` the model that training started with, once adapters are off (None where the
    objective has no KL term). Messages whose advantage is exactly 0 have no policy loss: where the
    objective has no other term they count in the mean but are not computed, and entropy and gap are
    those of the others. Each of the `ranks` computes its share of the micro-batches; the optimiser
    adds up their gradients, so that all take the same step.

    Raises:
        ValueError: the engine's log-probs differ from the trainer's (weights not in step), or the
            loss is not finite.
    """
    goal = run.objective
    every = goal.kl > 0 or goal.entropy > 0
    lr = run.train.lr * min(1.0, (step + 1) / (run.train.warmup + 1))
    order = np.random.default_rng(stream("minibatch", run.seed, step, index)).permutation(chosen)
    totals = dict.fromkeys(("loss", "grad_norm", "clip_fraction", "entropy", "logprob_gap"), 0.0)
    ratios = [0.0] * (len(canary.RATIOS) + 1)
    tokens = sum(
        len(played.messages[i].completion.ids) for i in order if every or advantage[i] != 0
    )
    parts = [p for p in np.array_split(order, run.train.minibatches) if len(p)]
    for number, part in enumerate(parts):
        some = part if every else part[advantage[part] != 0]
        lengths = [len(played.messages[i].completion.ids) for i in part]
        batches = micro_batches(played, some, model)
        sums = [0.0] * (3 + len(ratios))
        gap = 0.0
        mine = ranks.mine(len(batches))
        for batch in (batches[k] for k in mine):
            loss, found = optimiser.backward(
                _loss, run, reference, played, batch, advantage, lengths
            )
            gap = max(gap, found["logprob_gap"])
            sums = [
                a + b
                for a, b in zip(
                    sums,
                    (loss, found["clip_fraction"], found["entropy"], *found["ratios"]),
                    strict=True,
                )
            ]
        if len(mine) * ranks.world < len(batches):  # the ranks before this one have one more
            optimiser.idle(_loss, run, reference, played, batches[0].one(), advantage, lengths)
        sums = ranks.total(sums)
        if number == 0:
            totals["logprob_gap"] = ranks.most(gap)
        totals["loss"] += sums[0] / len(parts)
        totals["clip_fraction"] += sums[1] / len(parts)
        totals["entropy"] += sums[2] / max(1, tokens)
        ratios = [a + b for a, b in zip(ratios, sums[3:], strict=True)]
        if not totals["logprob_gap"] <= canary.GAP[run.train.dtype]:
            raise ValueError(
                f"update {step}, policy {index}: "
                f"{canary.disagreement(totals['logprob_gap'], run.train.dtype)}"
            )
        norm = optimiser.step(lr) if batches else 0.0
        if not np.isfinite(norm):
            raise ValueError(
                f"update {step}, policy {index}: gradient norm is {norm}. The last checkpoint is "
                "untouched; lower train.lr."
            )
        totals["grad_norm"] += norm / len(parts)
    return totals, ratios


def _loss(
    model: Any,
    run: RunConfig,
    reference: Any,
    played: Played,
    batch: Batch,
    advantage: np.ndarray,
    lengths: list[int],
) -> tuple[torch.Tensor, dict[str, Any]]:
    """A micro-batch's part of the mini-batch's loss; `lengths` are the tokens of all of the
    mini-batch's messages.
    """
    goal = run.objective
    rule = objective.load(run.objective.name)
    messages = [played.messages[i] for i in batch.rows]
    shared = batch.shared
    prompts = [m.prompt for m in messages]
    said = [m.completion.ids for m in messages]
    logps, mask, entropy = policy.completion_logprobs(
        model, prompts, said, run.sampling.temperature, shared, goal.entropy > 0
    )
    behaviour = torch.zeros_like(logps)
    for r, m in enumerate(messages):
        behaviour[r, : len(m.completion.logprobs)] = torch.tensor(m.completion.logprobs)
    weight = torch.tensor(advantage[batch.rows], dtype=logps.dtype, device=logps.device)
    extra = logps.new_zeros(())
    if goal.kl:
        with torch.no_grad(), policy.bare(reference) as before:
            start = policy.completion_logprobs(
                before, prompts, said, run.sampling.temperature, shared
            )[0]
        if rule.KL == "reward":
            weight = weight[:, None] - goal.kl * objective.kl_to_go(behaviour, start, mask)
        else:
            extra = extra + goal.kl * objective.kl_k3(logps, start, mask)
    if goal.entropy:
        extra = extra - goal.entropy * entropy.sum()
    loss, clipped = rule.loss(objective.Batch(logps, behaviour, weight, mask), **goal.params)
    count = rule.divisor(lengths, max(run.sampling.max_tokens))
    found = {
        "logprob_gap": float((logps.detach() - behaviour)[mask].abs().max()),
        "clip_fraction": float(clipped) / count,
        "entropy": float(entropy.detach().sum()),
        "ratios": canary.histogram((logps.detach() - behaviour)[mask].exp()),
    }
    return loss / count + extra / sum(lengths), found


def micro_batches(played: Played, part: np.ndarray, model: Any) -> list[Batch]:
    """Messages of a mini-batch in batches bounded in computed tokens (and so in memory, whatever
    the size of a group), logits included.

    Either of similar length, or those whose prompts begin alike together, whichever computes less
    by enough; padding counts.
    """
    if not len(part):
        return []
    prompts = [played.messages[i].prompt for i in part]
    said = np.array([len(played.messages[i].completion.ids) for i in part])
    length = np.array([len(p) for p in prompts]) + said - 1  # nothing follows the last token
    shared = trunks(prompts)
    flat, cost = _packed(length, said, None, model)
    some, less = _packed(length, said, shared, model) if shared.saved else (flat, cost)
    best = (shared, some) if less < (1 - WORTH) * cost else (None, flat)
    return [Batch(part[rows], best[0] and best[0].some(rows)) for rows in best[1]]


def _packed(
    length: np.ndarray, said: np.ndarray, shared: Trunks | None, model: Any
) -> tuple[list[np.ndarray], int]:
    """Indices of rows in batches, and the tokens that all batches compute, padding included."""
    most, logits = _bounds(model)
    group = np.arange(len(length)) if shared is None else shared.of
    trunk = np.zeros_like(length) if shared is None else shared.length[group]
    rest = length - trunk
    longest = np.zeros(group.max() + 1, dtype=np.int64)
    np.maximum.at(longest, group, rest)
    out: list[list[int]] = []
    total = cost = before = widest = tail = groups = spoken = 0
    for i in np.lexsort((rest, group, trunk, longest[group])).tolist():
        n = len(out[-1]) + 1 if out else 1
        groups = groups + (group[i] != before)
        widest = max(widest, int(trunk[i]))
        tail = max(tail, int(rest[i]))
        # keys and values of a trunk are copied to each row: an eighth of what computing them would
        # take
        if (
            not out
            or groups * widest + n * tail + n * widest // 8 > most
            or spoken + said[i] > logits
        ):
            out.append([])
            total = total + cost
            n = 1
            groups = 1
            widest = int(trunk[i])
            tail = int(rest[i])
            spoken = 0
        cost = groups * widest + n * tail
        before = group[i]
        spoken = spoken + said[i]
        out[-1].append(i)
    return [np.array(rows) for rows in out], total + cost


def _bounds(model: Any) -> tuple[int, int]:
    """Tokens of a batch, and of these such with logits. On a CPU half a MB of hidden states, so
    that work stays in its caches.
    """
    config = model.config
    gpu = model.device.type == "cuda"
    tokens = 1 << 14 if gpu else max(1 << 10, (1 << 17) // config.hidden_size)
    return tokens, (1 << (28 if gpu else 26)) // config.vocab_size
