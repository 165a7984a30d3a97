"""What each message of an update gets: credit by the run's method, then advantage, then a critic's
target.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ccpo import advantage, credit
from ccpo.advantage import Messages
from ccpo.config import RunConfig
from ccpo.learn.critic import Critic
from ccpo.learn.state import State
from ccpo.play.types import Ledger, ScoredTree
from ccpo.tree import Tree


@dataclass(frozen=True)
class Assigned:
    """What the messages [M] of an update get: credit, group and advantage; and a critic's estimate
    and target, NaN where there is none.
    """

    credit: np.ndarray
    group: np.ndarray
    advantage: np.ndarray
    estimate: np.ndarray
    target: np.ndarray


def assign(run: RunConfig, state: State, scored: ScoredTree, learner: np.ndarray) -> Assigned:
    """Credit, then advantage within what one policy learns from (`learner` [M]); moves the memories
    of methods that have one.
    """
    tree = scored.tree
    estimate = np.full(len(tree), np.nan)
    if state.critic:
        used = np.flatnonzero(tree.factual)
        estimate[used] = state.critic.values(_critic_reads(state, state.critic, scored, used))
    value, group = _credit(run, state, replace(tree, value=estimate))
    tokens = np.array([len(m.completion.token_ids) for m in scored.messages])
    weight = np.zeros(len(tree))
    for index in range(len(state.models)):
        rows = learner == index
        messages = Messages(value[rows], group[rows], tokens[rows], estimate[rows])
        weight[rows] = _advantage(run, state, index, messages)
    if run.advantage.per_token:
        weight = weight / np.maximum(tokens, 1)
    if run.plan().critic == "message":
        target = tree.reward
    elif advantage.load(run.advantage.name).COMPARES == "critic":
        target = value
    else:
        target = value + estimate
    return Assigned(value, group, weight, estimate, np.where(np.isnan(estimate), np.nan, target))


def _credit(run: RunConfig, state: State, tree: Tree) -> tuple[np.ndarray, np.ndarray]:
    """Credit and group [M] by the run's method, which remembers the tree if it has a memory."""
    method = credit.load(run.credit.name)
    before = (state.memory.get("credit", {}),) if hasattr(method, "remember") else ()
    value, group = method.credit(tree, *before, **run.credit.params)
    if before:
        state.memory["credit"] = method.remember(tree, *before, **run.credit.params)
    return value, group


def _advantage(run: RunConfig, state: State, index: int, messages: Messages) -> np.ndarray:
    """Advantage of the messages of one policy, by a baseline that may have a memory."""
    name = f"advantage-{index}"
    baseline = advantage.load(run.advantage.name)
    memory = state.memory.get(name, {})
    value = advantage.compute(run.advantage.name, messages, memory, **run.advantage.params)
    if hasattr(baseline, "remember"):
        state.memory[name] = baseline.remember(messages, memory, **run.advantage.params)
    return value


def _critic_reads(
    state: State, critic: Critic, scored: ScoredTree, rows: np.ndarray
) -> list[list[int]]:
    """The tokens that a critic reads of some messages."""
    texts = []
    for i in rows:
        message = scored.messages[i]
        tokenizer = state.tokenizers[state.policy_of(int(scored.tree.agent[i]))]
        texts.append(critic.reads(message.prompt, message.completion.token_ids, tokenizer))
    return texts


def fit_critic(
    state: State, critic: Critic, scored: ScoredTree, assigned: Assigned, ledger: Ledger
) -> None:
    """Moves the critic towards its targets, and counts what it read."""
    rows = np.flatnonzero(~np.isnan(assigned.target))
    texts = _critic_reads(state, critic, scored, rows)
    critic.fit(texts, assigned.estimate[rows], assigned.target[rows])
    for i, text in zip(rows, texts, strict=True):
        agent = int(scored.tree.agent[i])
        ledger.add(
            agent,
            "critic",
            prompt_tokens=len(text),
            trained_tokens=len(text) * critic.settings.steps,
        )
