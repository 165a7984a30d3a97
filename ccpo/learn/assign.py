"""What each message of an update gets: credit by the run's method, then advantage, then a critic's
lesson.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ccpo import advantage, credit
from ccpo.advantage import Messages
from ccpo.config import RunConfig
from ccpo.learn.critic import Critic
from ccpo.learn.state import State
from ccpo.play.rollout import Ledger, Message, Played


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


def assign(run: RunConfig, state: State, played: Played, learner: np.ndarray) -> Assigned:
    """Credit, then advantage within what one policy learns from (`learner` [M]); moves the memories
    of methods that have one.
    """
    tree = played.tree
    method = credit.load(run.credit.name)
    baseline = advantage.load(run.advantage.name)
    estimate = np.full(len(tree), np.nan)
    if state.critic:
        used = np.flatnonzero(tree.factual)
        estimate[used] = state.critic.values(
            [_read(state.critic, played.messages[i]) for i in used]
        )
    before = (state.memory.get("credit", {}),) if hasattr(method, "remember") else ()
    seen = replace(tree, value=estimate)
    value, group = method.credit(seen, *before, **run.credit.params)
    if before:
        state.memory["credit"] = method.remember(seen, *before, **run.credit.params)
    found = np.zeros(len(tree))
    tokens = np.array([len(m.completion.ids) for m in played.messages])
    for index in range(len(state.models)):
        rows = learner == index
        messages = Messages(value[rows], group[rows], tokens[rows], estimate[rows])
        memory = state.memory.get(f"advantage-{index}", {})
        found[rows] = advantage.compute(
            run.advantage.name, messages, memory, **run.advantage.params
        )
        if hasattr(baseline, "remember"):
            state.memory[f"advantage-{index}"] = baseline.remember(
                messages, memory, **run.advantage.params
            )
    if run.advantage.per_token:
        found = found / np.maximum(tokens, 1)
    outcome = run.plan().critic == "message"
    target = (
        tree.reward if outcome else value if baseline.COMPARES == "critic" else value + estimate
    )
    return Assigned(value, group, found, estimate, np.where(np.isnan(estimate), np.nan, target))


def _read(critic: Critic, message: Message) -> list[int]:
    """What a critic reads of a message: its context, or the message too."""
    return message.prompt + message.completion.ids if critic.kind == "message" else message.prompt


def teach(critic: Critic, played: Played, given: Assigned, ledger: Ledger) -> None:
    """Moves the critic towards its targets, and counts what it read."""
    rows = np.flatnonzero(~np.isnan(given.target))
    texts = [_read(critic, played.messages[i]) for i in rows]
    critic.fit(texts, given.estimate[rows], given.target[rows])
    for i, text in zip(rows, texts, strict=True):
        agent = int(played.tree.agent[i])
        ledger.add(
            agent,
            "critic",
            prompt_tokens=len(text),
            trained_tokens=len(text) * critic.settings.steps,
        )
