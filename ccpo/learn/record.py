"""The rows that an update adds to a run's tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ccpo.advantage import role_information
from ccpo.benchmark import Task
from ccpo.grade import leakage
from ccpo.learn.assign import Assigned
from ccpo.learn.state import State
from ccpo.learn.update import UpdateStats
from ccpo.play.types import COUNTS, Ledger, ScoredTree
from ccpo.team import Team


@dataclass(frozen=True)
class Update:
    """What one update was: its tasks, the scored tree and what was assigned to its messages, the
    agents whose policies learnt, what the update of each policy did, and what all of it cost.
    """

    tasks: Sequence[Task]
    scored: ScoredTree
    assigned: Assigned
    active: Sequence[int]
    stats: dict[int, UpdateStats]
    ledger: Ledger


def record(team: Team, state: State, update: Update, keep_messages: bool) -> None:
    """Appends an update's rows to the tables, its messages if asked for."""
    state.rows["train"] += [_train_row(team, state, update, a) for a in range(team.agents)]
    state.rows["ledger"] += [
        {"step": state.step, "agent": a, "purpose": p, **{c: numbers[c] for c in COUNTS}}
        for (a, p), numbers in update.ledger.counts.items()
    ]
    if keep_messages:
        state.rows["credit"] += _credit_rows(state.step, update)


def _train_row(team: Team, state: State, update: Update, agent: int) -> dict[str, Any]:
    """What an update was for one agent."""
    tree = update.scored.tree
    assigned = update.assigned
    rows = np.flatnonzero((tree.agent == agent) & (assigned.group >= 0))
    completions = [update.scored.messages[i].completion for i in rows]
    # role_information takes every group's mean and scale out by itself
    shared = np.where(tree.factual, 2 * tree.reward - 1, 0.0)
    groups = np.unique(assigned.group[rows], return_inverse=True)[1]
    error = assigned.estimate[rows] - assigned.target[rows]
    policy = state.policy_of(agent)
    stats = update.stats[policy] if agent in update.active else UpdateStats()
    return {
        "step": state.step,
        "agent": agent,
        "active": agent in update.active,
        "reward": float(tree.reward[rows].mean()),
        "credit": float(assigned.credit[rows].mean()),
        "advantage_sd": float(assigned.advantage[rows].std()),
        "role_information": role_information(assigned.advantage[rows], shared[rows], groups),
        "rating_valid": float(np.mean(~np.isnan(tree.rating[rows, 0]))),
        "critic_error": float(np.sqrt(np.mean(error**2))) if state.critic else 0.0,
        **stats.columns(),
        "message_tokens": float(np.mean([len(c.token_ids) for c in completions])),
        "truncated": float(np.mean([c.finish_reason == "length" for c in completions])),
        "no_room": float(np.mean([not update.scored.messages[i].has_room for i in rows])),
        "leakage": _leakage(team, update, rows),
        "generated_tokens": state.generated,
        "evaluator_calls": state.evaluated,
        "late": state.late,
    }


def _leakage(team: Team, update: Update, rows: np.ndarray) -> float:
    """Share of an agent's messages that hold the true answer, as they are read; 0 for who is to
    answer.
    """
    tree = update.scored.tree
    if team.role(int(tree.turn[rows[0]]), range(len(team.turns))).answers:
        return 0.0
    thoughts = [team.as_read(update.scored.messages[i].text) for i in rows]
    tasks = [update.tasks[task] for task in tree.task[rows]]
    items = (
        (thought, task.truth, task.kind, task.tolerance)
        for thought, task in zip(thoughts, tasks, strict=True)
    )
    return float(np.mean(list(leakage.leaks_many(items))))


def _credit_rows(step: int, update: Update) -> list[dict[str, Any]]:
    """One row for each message."""
    tree = update.scored.tree
    return [
        {
            "step": step,
            "task_id": update.tasks[tree.task[i]].task_id,
            "message": i,
            **{c: int(getattr(tree, c)[i]) for c in ("parent", "turn", "agent", "removed")},
            "reward": float(tree.reward[i]),
            "credit": float(update.assigned.credit[i]),
            "advantage": float(update.assigned.advantage[i]),
            "answer": update.scored.answers[i],
            "text": update.scored.messages[i].text,
        }
        for i in range(len(tree))
    ]
