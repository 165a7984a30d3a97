"""Teams (topologies): one file each, found by its name. This file holds only the contract.

A team file has
  VERSION
      a whole number, bumped when its turns or prompts change on purpose
  team(**params) -> Team
      the turns, the roles that they name, and how the answer is formed; params are keyword-only,
      each with a default, and are the config schema
The docstring says what the team is, and how it departs from its source.

A turn may read only earlier turns, so every team is acyclic by construction.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import numpy as np

from ccpo.contract import Contract
from ccpo.grade import BOXED
from ccpo.grade.boxes import remove
from ccpo.grade.thinking import without_thinking

CONTRACT = Contract(constants={"VERSION": int}, functions={"team": ()}, schema="team")


@dataclass(frozen=True)
class Role:
    """What an agent is told. `user` may name {question} and {read} (the messages it reads, joined
    by blank lines), `system` may name {form}: how the benchmark wants its answers.

    `demo` is the field of a benchmark's Demo that shows how this role answers; `answers` says
    whether its message holds an answer.
    """

    system: str
    user: str
    demo: Literal["plan", "conclusion", "solution"]
    answers: bool

    def instruct(self, form: str = BOXED) -> str:
        """What the role is told, with the form of its answer filled in."""
        return self.system.replace("{form}", form)


@dataclass(frozen=True)
class Turn:
    """One message: who writes it, in which role, reading which earlier turns, and the role taken
    when all of those are left out.
    """

    agent: int
    role: str
    reads: tuple[int, ...] = ()
    alone: str | None = None


@dataclass(frozen=True)
class Team:
    """Who speaks in which turn, who reads whom, and how the answer is formed: the `last` message,
    or a `vote`.

    tie: what an undecided vote is worth: nothing (`wrong`), the mean over the tied answers
    (`uniform`), or the tied answer that was voted for `first`.
    thinking: whether a reader sees the thinking in a message (`read`), between <think> and
    </think>, or what stands beside it alone (`hidden`).
    """

    turns: tuple[Turn, ...]
    roles: dict[str, Role]
    answer: Literal["last", "vote"] = "last"
    tie: Literal["wrong", "uniform", "first"] = "wrong"
    thinking: Literal["hidden", "read"] = "hidden"

    def __post_init__(self) -> None:
        for index, turn in enumerate(self.turns):
            if any(read >= index or read < 0 for read in turn.reads):
                raise ValueError(
                    f"team: turn {index} reads {turn.reads}; a turn may read earlier turns only"
                )
            for role in (turn.role, turn.alone):
                if role is not None and role not in self.roles:
                    raise ValueError(
                        f"team: turn {index} names role '{role}', known are {sorted(self.roles)}"
                    )

    def as_read(self, message: str) -> str:
        """A message as its readers see it; boxes are taken out later (`guard`)."""
        return message if self.thinking == "read" else without_thinking(message)

    @property
    def agents(self) -> int:
        """Number of agents."""
        return max(turn.agent for turn in self.turns) + 1

    def without(self, agent: int) -> tuple[int, ...]:
        """Turns that remain when `agent` is left out (-1: nobody)."""
        return tuple(i for i, turn in enumerate(self.turns) if turn.agent != agent)

    def role(self, turn: int, present: Sequence[int]) -> Role:
        """The role of a turn, given the turns that are present."""
        it = self.turns[turn]
        alone = it.alone is not None and it.reads and not any(read in present for read in it.reads)
        return self.roles[it.alone if alone and it.alone else it.role]


SOLO = Role(
    system="Solve the problem step by step. End with the final answer {form}.",
    user="Problem: {question}",
    demo="solution",
    answers=True,
)


def guard(thought: str) -> str:
    """A thought as its reader sees it: every box that the verifier would read is taken out.

    The official guard strips a box only at the very end of the text and without nested braces, so
    that most leaks pass; the conflict of a role told not to answer by a prompt that asks for a box
    does not arise here, since questions carry no such suffix.
    """
    return remove(thought).strip()


def chat(role: Role, question: str, read: Iterable[str], form: str = BOXED) -> list[dict[str, str]]:
    """The chat messages that ask `role` for its message; `read` are the earlier messages it may see
    (guarded here).
    """
    text = role.user.replace("{question}", question).replace(
        "{read}", "\n\n".join(guard(r) for r in read)
    )
    return [{"role": "system", "content": role.instruct(form)}, {"role": "user", "content": text}]


def vote_outcome(answers: np.ndarray, tie: str) -> np.ndarray:
    """Expected outcome [E] of a plurality vote over answer classes [E, K] (0 = correct, -1 =
    abstains).

    tie: `wrong` pays nothing for a tie, `uniform` the share of the correct answer among the tied,
    `first` what the earliest tied voter said. Nobody votes: 0.
    """
    counts = ((answers[:, :, None] == answers[:, None, :]) & (answers[:, None, :] >= 0)).sum(2)
    counts = np.where(answers >= 0, counts, 0)
    best = counts.max(1, keepdims=True)
    tied = (counts == best) & (counts > 0)
    n_tied = (tied / np.maximum(counts, 1)).sum(1)  # distinct answers among the winners
    correct = (tied & (answers == 0)).any(1).astype(float)
    if tie == "uniform":
        return correct / np.maximum(np.round(n_tied), 1)
    if tie == "first":
        first = answers[np.arange(len(answers)), tied.argmax(1)]
        return ((first == 0) & tied.any(1)).astype(float)
    return correct * (np.round(n_tied) == 1)


def vote_answer(answers: np.ndarray, tie: str, lot: float) -> int:
    """The class that a plurality vote over classes [K] (0 = correct, -1 = abstains) answers with,
    -1 where nobody votes or a tie counts as wrong; `vote_outcome` is the chance that it is 0.

    lot: a number in [0, 1) that decides a tie under `uniform`.
    """
    votes = answers[answers >= 0]
    if votes.size == 0:
        return -1
    # of each class its first voter's place: classes are in the order in which they are first voted
    classes, places, counts = np.unique(votes, return_index=True, return_counts=True)
    tied = sorted(zip(places[counts == counts.max()], classes[counts == counts.max()], strict=True))
    if tie == "wrong" and len(tied) > 1:
        return -1
    return int(tied[int(lot * len(tied)) if tie == "uniform" else 0][1])


def names() -> list[str]:
    """Names of all teams: the files of this folder."""
    return sorted(file.name for file in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The team file of this name; `names()` says which exist."""
    return CONTRACT.require(importlib.import_module(f"{__name__}.{name}"))
