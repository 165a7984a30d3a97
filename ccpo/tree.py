"""The tree of messages of one update, and the plan that asks for one: frozen arrays that check
themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Removal:
    """A counterfactual: `agent` is left out, `n` episodes a task are drawn from the others."""

    agent: int
    n: int


@dataclass(frozen=True)
class Plan:
    """What a method needs generated for each task, known before anything runs.

    `fanout[t]`: how many messages turn t draws below each message of turn t-1 ([8, 1]: flat
    episodes, [2, 4]: a tree).
    `ratings`: whether the author of each factual message rates its episode, once the verdict is
    known (flat episodes only).
    `critic`: what a critic estimates the outcome from: a message's `context`, the `message` with
    its context, or "": there is none.
    `untaught`: turns whose messages get no credit, whatever happens: they never learn.
    """

    fanout: tuple[int, ...]
    removals: tuple[Removal, ...] = ()
    ratings: bool = False
    critic: Literal["", "context", "message"] = ""
    untaught: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.fanout or any(n < 1 for n in self.fanout):
            raise ValueError(
                f"plan: fan-out {list(self.fanout)} needs one number >= 1 for each turn"
            )
        if self.ratings and any(n != 1 for n in self.fanout[1:]):
            raise ValueError(
                f"plan: ratings need flat episodes (fan-out [n, 1]), not {list(self.fanout)}: a "
                "message would stand in several episodes and have several ratings"
            )

    @property
    def episodes(self) -> int:
        """Factual episodes (leaves) of one task."""
        return int(np.prod(self.fanout))


@dataclass(frozen=True)
class Tree:
    """Arrays over the M messages of one update; a parent always precedes its children.

    task      int   [M] index of the task
    parent    int   [M] index of the previous message of the episode, -1 at a root
    turn      int   [M] turn of the team in which it was written
    agent     int   [M] who wrote it
    removed   int   [M] agent left out of this episode, -1 in factual episodes
    reward    float [M] verifier's outcome in [0, 1]; an inner message has the mean of its leaves
    n_leaves  int   [M] leaves below it (1 for a leaf)
    answer    int   [M] class of the message's own answer within its task: 0 = verified correct,
              1, 2, ... = distinct other answers, -1 = no answer
    value     float [M] critic's estimate, NaN where there is none
    rating    float [M, A] shares of the agents in the outcome of the message's episode, as rated
              by the message's author; NaN where there is none, or it was invalid
    truncated bool  [M] the message was cut at its largest length (nowhere, if not given)
    """

    task: np.ndarray
    parent: np.ndarray
    turn: np.ndarray
    agent: np.ndarray
    removed: np.ndarray
    reward: np.ndarray
    n_leaves: np.ndarray
    answer: np.ndarray
    value: np.ndarray
    rating: np.ndarray
    truncated: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        size = len(self.task)
        if self.truncated is None:
            object.__setattr__(self, "truncated", np.zeros(size, bool))
        for name in self.__dataclass_fields__:
            if len(getattr(self, name)) != size:
                raise ValueError(
                    f"tree: {name} has {len(getattr(self, name))} entries, task has {size}"
                )
        if size and not (self.parent < np.arange(size)).all():
            raise ValueError("tree: a message stands before its parent")
        bad = np.flatnonzero(~np.isfinite(self.reward) | (self.reward < 0) | (self.reward > 1))
        if bad.size:
            raise ValueError(
                f"tree: message {bad[0]} (task {self.task[bad[0]]}) has reward "
                f"{self.reward[bad[0]]}; the verifier's outcome must be a finite number in "
                "[0, 1]. Remedy: mend the verifier or the team rule that gave it."
            )

    def __len__(self) -> int:
        return len(self.task)

    @property
    def factual(self) -> np.ndarray:
        """bool [M]: True for messages of factual episodes."""
        return self.removed == -1

    @property
    def leaf(self) -> np.ndarray:
        """bool [M]: True for the last message of an episode."""
        mask = np.ones(len(self), bool)
        mask[self.parent[self.parent >= 0]] = False
        return mask

    def episodes(self) -> np.ndarray:
        """Messages [E, K] of the E factual episodes, first to last; all have the same number of
        turns K.
        """
        columns = [np.flatnonzero(self.leaf & self.factual)]
        while (before := self.parent[columns[-1]]).max(initial=-1) >= 0:
            columns.append(before)
        return np.stack(columns[::-1], 1)


@dataclass(frozen=True)
class Structure:
    """Where each of M messages stands, int [M] each: see Tree. A parent precedes its children."""

    task: np.ndarray
    parent: np.ndarray
    turn: np.ndarray
    agent: np.ndarray
    removed: np.ndarray

    @property
    def leaf(self) -> np.ndarray:
        """bool [M]: True for the last message of an episode."""
        mask = np.ones(len(self.task), bool)
        mask[self.parent[self.parent >= 0]] = False
        return mask

    def path(self, message: int) -> list[int]:
        """The messages of an episode up to this one, first to last."""
        path = [message]
        while self.parent[path[-1]] >= 0:
            path.append(int(self.parent[path[-1]]))
        return path[::-1]


def make_tree(
    structure: Structure,
    *,
    leaf_reward: np.ndarray,
    answer: np.ndarray,
    truncated: np.ndarray | None = None,
) -> Tree:
    """A tree from its structure and the outcome of its leaves (`leaf_reward` [M], read at leaves
    only); values and ratings are NaN.
    """
    parent = structure.parent
    size = len(parent)
    leaf = structure.leaf
    total = np.where(leaf, leaf_reward, 0.0)
    leaves = leaf.astype(int)
    depth = np.zeros(size, int)
    above = np.asarray(parent)
    while (above >= 0).any():
        depth += above >= 0
        above = np.where(above >= 0, parent[above], -1)
    # all messages of a depth at once: an enumerated world has 600,000 messages
    for level in range(int(depth.max(initial=0)), 0, -1):
        child = np.flatnonzero(depth == level)[::-1]
        total += np.bincount(parent[child], total[child], size)
        leaves += np.bincount(parent[child], leaves[child], size).astype(int)
    return Tree(
        task=structure.task,
        parent=parent,
        turn=structure.turn,
        agent=structure.agent,
        removed=structure.removed,
        reward=total / np.maximum(leaves, 1),
        n_leaves=leaves,
        answer=answer,
        value=np.full(size, np.nan),
        rating=np.full((size, int(structure.agent.max(initial=-1)) + 1), np.nan),
        truncated=np.zeros(size, bool) if truncated is None else truncated,
    )
