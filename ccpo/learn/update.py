"""Optimiser steps: from messages with advantages to a better policy, in micro-batches whose sum has
exactly the gradient of one batch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import PreTrainedModel

from ccpo import objective
from ccpo.config import RunConfig
from ccpo.learn import canary
from ccpo.learn.optimisers import Optimiser
from ccpo.models import policy
from ccpo.play.engine.batching import Bounds, RowSizes, pack
from ccpo.play.engine.prefix import WORTHWHILE, SharedPrefixes, find_shared
from ccpo.play.rollout import stream
from ccpo.play.types import Message
from ccpo.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Learner:
    """One policy and what moves it. `reference`: the model that training started with, once
    adapters are off (None where the objective has no KL term); `lr` and `kl`: the learning rate and
    the weight of the KL term in this update.
    """

    index: int
    model: PreTrainedModel
    optimiser: Optimiser
    reference: PreTrainedModel | None
    lr: float
    kl: float


@dataclass(frozen=True)
class Lessons:
    """The messages of an update, the advantage [M] of each, and the indices of those that one
    policy learns from.
    """

    messages: Sequence[Message]
    advantage: np.ndarray
    chosen: np.ndarray

    def tokens(self, rows: np.ndarray) -> list[int]:
        """Generated tokens of some of the messages."""
        return [len(self.messages[i].completion.token_ids) for i in rows]


@dataclass(frozen=True)
class Batch:
    """Messages that are computed together, and what their prompts begin with in common, where that
    is computed once.
    """

    rows: np.ndarray
    shared: SharedPrefixes | None

    def first_message(self) -> Batch:
        """The first message alone, computed in as many steps: ranks that gather weights for each
        step stay together.
        """
        return Batch(self.rows[:1], self.shared and self.shared.select(np.array([0])))


@dataclass
class BatchStats:
    """Sums over a mini-batch's messages: loss, share of clipped terms, entropy, divergence from the
    reference, and the counts of tokens by importance ratio (`canary.RATIOS`); and the largest
    difference between the engine's log-probs and the trainer's.
    """

    loss: float = 0.0
    clip_fraction: float = 0.0
    entropy: float = 0.0
    divergence: float = 0.0
    ratios: list[float] = field(default_factory=lambda: [0.0] * (len(canary.RATIOS) + 1))
    logprob_gap: float = 0.0

    def add(self, loss: float, other: BatchStats) -> None:
        """Adds a micro-batch of that loss."""
        self.loss += loss
        self.clip_fraction += other.clip_fraction
        self.entropy += other.entropy
        self.divergence += other.divergence
        self.ratios = [a + b for a, b in zip(self.ratios, other.ratios, strict=True)]
        self.logprob_gap = max(self.logprob_gap, other.logprob_gap)

    def over_ranks(self, ranks: Ranks) -> BatchStats:
        """The sums (of the gap the largest) over all ranks."""
        own = [self.loss, self.clip_fraction, self.entropy, self.divergence]
        loss, clip_fraction, entropy, divergence, *ratios = ranks.total([*own, *self.ratios])
        gap = ranks.most(self.logprob_gap)
        return BatchStats(loss, clip_fraction, entropy, divergence, ratios, gap)


@dataclass
class UpdateStats:
    """What an update of a policy did: means over its mini-batches of loss, gradient norm and share
    of clipped terms; mean entropy of a token, and its mean divergence from the reference; the
    log-prob gap before the first step; counts of tokens by importance ratio.
    """

    loss: float = 0.0
    grad_norm: float = 0.0
    clip_fraction: float = 0.0
    entropy: float = 0.0
    divergence: float = 0.0
    logprob_gap: float = 0.0
    ratios: list[float] = field(default_factory=lambda: [0.0] * (len(canary.RATIOS) + 1))

    def columns(self) -> dict[str, float]:
        """Those that are columns of the table `train`."""
        return {
            "loss": self.loss,
            "grad_norm": self.grad_norm,
            "clip_fraction": self.clip_fraction,
            "entropy": self.entropy,
            "logprob_gap": self.logprob_gap,
        }


def update_policy(
    run: RunConfig, learner: Learner, lessons: Lessons, step: int, ranks: Ranks = ALONE
) -> UpdateStats:
    """The optimiser steps of one policy in update `step`: `epochs` times through the messages.

    Messages whose advantage is exactly 0 have no policy loss: where the objective has no other term
    they count in the mean but are not computed, and entropy and gap are those of the others. Each
    of the `ranks` computes its share of the micro-batches; the optimiser adds up their gradients,
    so that all take the same step.

    Raises:
        ValueError: the engine's log-probs differ from the trainer's (weights not in step), or the
        gradient is not finite.
    """
    where = f"update {step}, policy {learner.index}"
    rng = np.random.default_rng(stream("minibatch", run.seed, step, learner.index))
    orders = [rng.permutation(lessons.chosen) for _ in range(run.train.epochs)]
    split = [p for order in orders for p in np.array_split(order, run.train.minibatches)]
    parts = [p for p in split if len(p)]
    tokens = sum(lessons.tokens(_computed(run, lessons, np.concatenate(orders))))
    stats = UpdateStats()
    for number, part in enumerate(parts):
        batches = micro_batches(lessons.messages, _computed(run, lessons, part), learner.model)
        sums = _backward(run, learner, lessons, (part, batches), ranks)
        if number == 0:
            stats.logprob_gap = sums.logprob_gap
        stats.loss += sums.loss / len(parts)
        stats.clip_fraction += sums.clip_fraction / len(parts)
        stats.entropy += sums.entropy / max(1, tokens)
        stats.divergence += sums.divergence / max(1, tokens)
        stats.ratios = [a + b for a, b in zip(stats.ratios, sums.ratios, strict=True)]
        if not stats.logprob_gap <= canary.GAP[run.train.dtype]:
            words = canary.disagreement(stats.logprob_gap, run.train.dtype)
            raise ValueError(f"{where}: {words}")
        if batches:
            stats.grad_norm += _step(learner, where) / len(parts)
    return stats


def _step(learner: Learner, where: str) -> float:
    """The gradient's norm before the step."""
    norm = learner.optimiser.step(learner.lr)
    if not np.isfinite(norm):
        raise ValueError(
            f"{where}: gradient norm is {norm}. The last checkpoint is untouched; lower train.lr."
        )
    return norm


def _computed(run: RunConfig, lessons: Lessons, part: np.ndarray) -> np.ndarray:
    """Those messages of a part that the objective has a term for; what is empty has none."""
    part = part[[lessons.messages[i].has_room for i in part]]
    if run.objective.kl > 0 or run.objective.entropy > 0:
        return part
    return part[lessons.advantage[part] != 0]


def _backward(
    run: RunConfig,
    learner: Learner,
    lessons: Lessons,
    minibatch: tuple[np.ndarray, list[Batch]],
    ranks: Ranks,
) -> BatchStats:
    """Adds the gradient of a mini-batch, of this rank's share of its micro-batches; what all ranks
    saw.
    """
    part, batches = minibatch
    loss = functools.partial(
        _loss,
        run=run,
        learner=learner,
        lessons=lessons,
        lengths=lessons.tokens(part),
    )
    sums = BatchStats()
    share = ranks.share(len(batches))
    for number in share:
        sums.add(*learner.optimiser.backward(functools.partial(loss, batch=batches[number])))
    if len(share) * ranks.world < len(batches):  # the ranks before this one have one more
        small = batches[0].first_message()
        learner.optimiser.dummy_backward(functools.partial(loss, batch=small))
    return sums.over_ranks(ranks)


def _loss(
    model: PreTrainedModel,
    *,
    run: RunConfig,
    learner: Learner,
    lessons: Lessons,
    batch: Batch,
    lengths: list[int],
) -> tuple[torch.Tensor, BatchStats]:
    """A micro-batch's part of the mini-batch's loss; `lengths` are the tokens of all of the
    mini-batch's messages.
    """
    goal = run.objective
    rule = objective.load(goal.name)
    count = rule.divisor(lengths, max(run.sampling.max_tokens))
    messages = [lessons.messages[i] for i in batch.rows]
    logprobs_of = functools.partial(
        policy.completion_logprobs,
        prompts=[m.prompt for m in messages],
        completions=[m.completion.token_ids for m in messages],
        temperature=run.sampling.temperature,
        shared=batch.shared,
    )
    computed = logprobs_of(model, entropy_gradient=goal.entropy > 0)
    logprobs, mask, entropy = computed
    behaviour = _engine_logprobs(messages, logprobs)
    weight = logprobs.new_tensor(lessons.advantage[batch.rows])
    extra = logprobs.new_zeros(())
    divergence = 0.0
    if learner.reference is not None and goal.kl:
        with torch.no_grad(), policy.without_adapters(learner.reference) as start:
            initial = logprobs_of(start).logprobs
        k3 = objective.kl_k3(logprobs, initial, mask)
        divergence = float(k3.detach())
        if rule.KL == "reward":
            weight = weight[:, None] - learner.kl * objective.kl_to_go(behaviour, initial, mask)
        else:
            extra = extra + learner.kl * k3
    if goal.entropy:
        extra = extra - goal.entropy * entropy.sum()
    terms = objective.Batch(logprobs, behaviour, weight, mask)
    loss, clipped = rule.loss(terms, **goal.params)
    stats = _stats(computed, behaviour)
    stats.clip_fraction = float(clipped) / count
    stats.divergence = divergence
    return loss / count + extra / sum(lengths), stats


def _stats(computed: policy.TokenLogprobs, behaviour: torch.Tensor) -> BatchStats:
    """What is recorded of a micro-batch's tokens; its loss is added by who takes its gradient."""
    log_ratio = (computed.logprobs.detach() - behaviour)[computed.mask]
    return BatchStats(
        entropy=float(computed.entropy.detach().sum()),
        ratios=canary.histogram(log_ratio.exp()),
        logprob_gap=float(log_ratio.abs().max()),
    )


def _engine_logprobs(messages: Sequence[Message], like: torch.Tensor) -> torch.Tensor:
    """The engine's log-probs of messages, padded with 0 to the shape of `like`."""
    logprobs = torch.zeros_like(like)
    for row, message in enumerate(messages):
        values = message.completion.logprobs
        logprobs[row, : len(values)] = torch.tensor(values)
    return logprobs


def micro_batches(
    messages: Sequence[Message], part: np.ndarray, model: PreTrainedModel
) -> list[Batch]:
    """Messages of a mini-batch in batches bounded in computed tokens (and so in memory, whatever
    the size of a group), logits included.

    Either of similar length, or those whose prompts begin alike together, whichever computes less
    by enough; padding counts.
    """
    if not len(part):
        return []
    prompts = [messages[i].prompt for i in part]
    generated = np.array([len(messages[i].completion.token_ids) for i in part])
    # nothing follows the last token
    length = np.array([len(p) for p in prompts]) + generated - 1
    bounds = _bounds(model)
    separate, cost = pack(RowSizes.separate(length, generated), bounds)
    shared = find_shared(prompts)
    if shared.saved:
        prefix = shared.length[shared.group]
        together, less = pack(RowSizes(length, generated, shared.group, prefix), bounds)
        if less < (1 - WORTHWHILE) * cost:
            return [Batch(part[rows], shared.select(rows)) for rows in together]
    return [Batch(part[rows], None) for rows in separate]


def _bounds(model: PreTrainedModel) -> Bounds:
    """The largest batch. On a CPU half a MB of hidden states, so that work stays in its caches."""
    config = model.config
    gpu = model.device.type == "cuda"
    tokens = 1 << 14 if gpu else max(1 << 10, (1 << 17) // config.hidden_size)
    return Bounds(tokens, (1 << (28 if gpu else 26)) // config.vocab_size)
