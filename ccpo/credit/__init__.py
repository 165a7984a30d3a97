"""Credit-assignment methods: one file each, found by its name. This file holds only the contract.

A method file has
  VERSION
      a whole number, bumped when the method's numbers change on purpose
  plan(team, fanout, **params) -> Plan
      what it needs drawn, rated and estimated for each task, so that cost is known before launch;
      raises ValueError where the method has no meaning for the team or the fan-out. A file whose
      `credit` takes parameters takes them here too, by name or as **_
  degenerate(compares, **params) -> str
      why, by algebra, it teaches no more than the shared reward under an advantage that COMPARES so
      (ccpo/advantage), or ""; params as in `plan`
  credit(tree, **params) -> (credit [M] float64, group [M] int64)
      pure arithmetic; params are keyword-only, each with a default, and are the config schema. A
      group holds the messages that a baseline compares with each other; -1 marks messages that are
      not trained, whose credit is 0
A method that remembers earlier updates also has
  remember(tree, memory, **params) -> memory
      its statistics (name -> number, {} at the start) once this tree is seen; `credit(tree, memory,
      **params)` gets those from before its tree
The docstring has the formula, `Source:`, `Departures:` from it, and `Cost:` beyond the episodes.

Rewards in the tree are outcomes in [0, 1]; methods that speak of signs map them to 2 r - 1.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import numpy as np

from ccpo.contract import Contract
from ccpo.team import Team
from ccpo.tree import Tree

CONTRACT = Contract(
    constants={"VERSION": int},
    functions={"plan": ("team", "fanout"), "degenerate": ("compares",), "credit": ("tree",)},
    schema="credit",
    accepts=("plan", "degenerate", "remember"),
    docstring={
        "Source:": "`Source: <paper with its version, equation or official file>`",
        "Departures:": "`Departures: <what is done differently here, or none>`",
        "Cost:": "`Cost: <messages and evaluator calls beyond the episodes, or none>`",
    },
)


def sibling_groups(tree: Tree) -> np.ndarray:
    """Group ids [M]: factual messages of one task, turn and agent form a group; -1 for
    counterfactual messages.
    """
    turns, agents = (int(column.max(initial=0)) + 1 for column in (tree.turn, tree.agent))
    return np.where(tree.factual, (tree.task * turns + tree.turn) * agents + tree.agent, -1).astype(
        np.int64
    )


def paired(name: str, task: np.ndarray, solo_task: np.ndarray, solo: np.ndarray) -> np.ndarray:
    """For each message of `task` [F] a solo outcome [F]: the k-th message of a task is paired with
    its k-th solo sample, in cycles.

    Raises:
        ValueError: a task has no solo sample; `name` is the method that asks.
    """
    order = np.argsort(task, kind="stable")
    solo_order = np.argsort(solo_task, kind="stable")
    joint = task[order]  # in blocks of one task, as are the solo samples
    alone = solo_task[solo_order]
    first = np.searchsorted(alone, joint)
    last = np.searchsorted(alone, joint, "right")
    if (first == last).any():
        raise ValueError(f"credit {name}: task {int(joint[first == last][0])} has no solo sample")
    rank = np.arange(len(joint)) - np.searchsorted(joint, joint)
    out = np.empty(len(task))
    out[order] = solo[solo_order][first + rank % (last - first)]
    return out


def flat_vote(name: str, team: Team, fanout: tuple[int, ...]) -> None:
    """Raises ValueError unless the team votes and each episode has its own messages."""
    if team.answer != "vote":
        raise ValueError(
            f"credit {name} needs a team that votes; this one's answer is its {team.answer} message"
        )
    if any(n != 1 for n in fanout[1:]):
        raise ValueError(
            f"credit {name} needs flat episodes (fan-out [n, 1, 1]), not {list(fanout)}: a "
            "message would take part in several votes"
        )


def names() -> list[str]:
    """Names of all methods: the files of this folder."""
    return sorted(file.name for file in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The method of this name; `names()` says which exist."""
    return CONTRACT.require(importlib.import_module(f"{__name__}.{name}"))
