"""Optimiser steps: from messages with advantages to a better policy, in micro-batches whose sum has exactly the gradient of one batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ccpo.config import RunConfig
from ccpo.learn import policy
from ccpo.learn.objective import OBJECTIVES, kl_k3, kl_to_go, terms
from ccpo.play.rollout import Message, Played, stream
from ccpo.ranks import ALONE, Ranks

# Largest difference of the engine's and the trainer's log-probs of the same weights.
GAP = {"float32": 2e-3, "bfloat16": 0.5}


def improve(
    run: RunConfig,
    index: int,
    model: Any,
    optimiser: torch.optim.Optimizer,
    reference: Any,
    played: Played,
    advantage: np.ndarray,
    chosen: np.ndarray,
    step: int,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """Optimiser steps of policy `index` on the chosen messages; returns loss, gradient norm, clip fraction, entropy, log-prob gap.

    `advantage` [M] is of all messages, `chosen` the indices of those this policy learns from, `reference` the model that training started
    with, once adapters are off (None where the objective has no KL term). Messages whose advantage is exactly 0 have no policy loss: where
    the objective has no other term they count in the mean but are not computed, and entropy and gap are those of the others. Each of the
    `ranks` computes its share of the micro-batches; gradients are added up, so that all take the same step.

    Raises:
        ValueError: the engine's log-probs differ from the trainer's (weights not in step), or the loss is not finite.
    """
    goal = run.objective
    every = goal.kl > 0 or goal.entropy > 0
    for group in optimiser.param_groups:
        group["lr"] = run.train.lr * min(1.0, (step + 1) / (run.train.warmup + 1))
    order = np.random.default_rng(stream("minibatch", run.seed, step, index)).permutation(chosen)
    totals = dict.fromkeys(("loss", "grad_norm", "clip_fraction", "entropy", "logprob_gap"), 0.0)
    tokens = sum(len(played.messages[i].completion.ids) for i in order if every or advantage[i] != 0)
    parts = [p for p in np.array_split(order, run.train.minibatches) if len(p)]
    for number, part in enumerate(parts):
        optimiser.zero_grad(set_to_none=True)
        some = part if every else part[advantage[part] != 0]
        lengths = [len(played.messages[i].completion.ids) for i in part]
        batches = micro_batches(played, some, model.config.vocab_size)
        sums, gap = [0.0, 0.0, 0.0], 0.0
        for rows in (batches[k] for k in ranks.mine(len(batches))):
            messages = [played.messages[i] for i in rows]
            loss, found = _loss(run, model, reference, messages, advantage[rows], lengths)
            loss.backward()
            gap = max(gap, found["logprob_gap"])
            sums = [a + b for a, b in zip(sums, (float(loss.detach()), found["clip_fraction"], found["entropy"]), strict=True)]
        if batches and ranks.world > 1:
            ranks.add_up(_gradients(model))
        sums = ranks.total(sums)
        if number == 0:
            totals["logprob_gap"] = ranks.most(gap)
        totals["loss"] += sums[0] / len(parts)
        totals["clip_fraction"] += sums[1] / len(parts)
        totals["entropy"] += sums[2] / max(1, tokens)
        if totals["logprob_gap"] > GAP[run.train.dtype]:
            raise ValueError(
                f"update {step}, policy {index}: engine and trainer log-probs differ by {totals['logprob_gap']:.3g} (allowed "
                f"{GAP[run.train.dtype]}), so the engine does not speak with the trainer's weights. Nothing was updated."
            )
        norm = torch.nn.utils.clip_grad_norm_(policy.learnt(model).values(), run.train.grad_clip)
        if not torch.isfinite(norm):
            raise ValueError(
                f"update {step}, policy {index}: gradient norm is {float(norm)}. The last checkpoint is untouched; lower train.lr."
            )
        totals["grad_norm"] += float(norm) / len(parts)
        optimiser.step()
    return totals


def _gradients(model: Any) -> list[torch.Tensor]:
    """The gradient of every weight that learns, zero where this rank's share gave none."""
    learnt = policy.learnt(model).values()
    for weight in learnt:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    return [weight.grad for weight in learnt if weight.grad is not None]


def _loss(
    run: RunConfig, model: Any, reference: Any, messages: list[Message], advantage: np.ndarray, lengths: list[int]
) -> tuple[torch.Tensor, dict[str, float]]:
    """A micro-batch's part of the mini-batch's loss; `lengths` are the tokens of all of the mini-batch's messages."""
    goal = run.objective
    prompts, said = [m.prompt for m in messages], [m.completion.ids for m in messages]
    logps, mask, entropy = policy.completion_logprobs(model, prompts, said, run.sampling.temperature, goal.entropy > 0)
    behaviour = torch.zeros_like(logps)
    for r, m in enumerate(messages):
        behaviour[r, : len(m.completion.logprobs)] = torch.tensor(m.completion.logprobs)
    weight = torch.tensor(advantage, dtype=logps.dtype, device=logps.device)
    extra = logps.new_zeros(())
    if goal.kl:
        with torch.no_grad(), policy.bare(reference) as before:
            start = policy.completion_logprobs(before, prompts, said, run.sampling.temperature)[0]
        if goal.name == "reinforce_pp":
            weight = weight[:, None] - goal.kl * kl_to_go(behaviour, start, mask)
        else:
            extra = extra + goal.kl * kl_k3(logps, start, mask)
    if goal.entropy:
        extra = extra - goal.entropy * entropy.sum()
    loss, clipped = OBJECTIVES[goal.name](logps, behaviour, weight, mask, clip_low=goal.clip_low, clip_high=goal.clip_high)
    count = terms(goal.name, lengths, max(run.sampling.max_tokens))
    found = {
        "logprob_gap": float((logps.detach() - behaviour)[mask].abs().max()),
        "clip_fraction": float(clipped) / count,
        "entropy": float(entropy.detach().sum()),
    }
    return loss / count + extra / sum(lengths), found


def micro_batches(played: Played, part: np.ndarray, vocabulary: int) -> list[np.ndarray]:
    """Messages of a mini-batch in batches of similar length, bounded in padded tokens (and so in memory, logits included)."""
    budget = min(1 << 14, (1 << 26) // vocabulary)
    size = {int(i): len(played.messages[i].prompt) + len(played.messages[i].completion.ids) for i in part}
    out: list[list[int]] = [[]]
    for i in sorted(size, key=lambda i: (size[i], i)):
        if out[-1] and (len(out[-1]) + 1) * size[i] > budget:
            out.append([])
        out[-1].append(i)
    return [np.array(rows) for rows in out if rows]
