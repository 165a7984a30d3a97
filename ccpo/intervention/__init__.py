"""Changes to an evaluated team: one file each, found by its name. This file holds only the
contract.

An intervention file has
  VERSION
      a whole number, bumped when what it does changes on purpose
  LABEL
      what happens, in the few words of a figure's legend
  CHANGES
      "agent": one agent at a time, and it is played once for each that it can change, under the
      primary decoding; or the whole "team", and it is played once, under every decoding
  agents(team) -> agents
      which agents it can change; of the whole team all of them, or none where it means nothing
  change(team, agent) -> Change
      what becomes of the turns (ALL: of the whole team)
  alter(material, *, parameters) -> texts
      what readers, and the vote, get in place of the messages of a turn that is altered, [episodes]
Its name in tables is the file's, with a dot and the agent's number where it changes one agent:
`blank.0`. `factual` is the team as it is, which every evaluation plays first.

Only the turns that depend on a change speak anew; all others keep their factual messages, and who
speaks anew draws from the stream that the factual turn drew from. So a difference from the factual
team is paired by task and sample.

There is no intervention `question only`, since two others are just that. Under `solo` the agent who
answers takes its role alone and is not told that there ever was a message. Under `blank` it keeps
its role, is told that there was one, and finds it empty.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from ccpo.contract import Contract
from ccpo.team import Team

ALL = -1  # in place of an agent: the whole team
CONTRACT = Contract(
    constants={"VERSION": int, "LABEL": str, "CHANGES": ("agent", "team")},
    functions={"agents": ("team",), "change": ("team", "agent"), "alter": ("material",)},
    schema="alter",
)
Fate = Literal["drawn", "kept", "altered"]


@dataclass(frozen=True)
class Change:
    """What becomes of the turns of a team: which are `absent`, whose messages are `altered`, who
    speaks with the policies that training began with (`untrained`), who sees no question
    (`unasked`), whose messages are `held` as they were in the factual team whatever they read.
    """

    absent: frozenset[int] = frozenset()
    altered: frozenset[int] = frozenset()
    untrained: frozenset[int] = frozenset()
    unasked: frozenset[int] = frozenset()
    held: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Material:
    """What an altered turn's messages are made of: its factual `messages` [episodes]; the `foreign`
    ones that it wrote in an episode of another task each, of another truth where there is one; and
    `cut(text, share)`, the first share of a text's tokens, rounded down.
    """

    messages: Sequence[str]
    foreign: Sequence[str]
    cut: Callable[[str, float], str]


def unaltered(material: Material) -> list[str]:
    """The messages as they are: `alter` of a file that alters none."""
    return list(material.messages)


def present(team: Team, change: Change) -> tuple[int, ...]:
    """The turns that are there."""
    return tuple(turn for turn in range(len(team.turns)) if turn not in change.absent)


def fates(team: Team, change: Change) -> dict[int, Fate]:
    """What becomes of each turn that is there: its message is altered; or drawn anew, since another
    policy speaks, in another role, without the question, or reads something else than before; or
    kept as it was in the factual team.
    """
    there = present(team, change)
    out: dict[int, Fate] = {}
    for turn in there:
        reads = team.turns[turn].reads
        reads_otherwise = any(out.get(read) != "kept" for read in reads)
        other_role = team.role(turn, there) != team.roles[team.turns[turn].role]
        if turn in change.altered:
            out[turn] = "altered"
        elif turn in change.held:
            out[turn] = "kept"
        elif turn in change.untrained | change.unasked or other_role or reads_otherwise:
            out[turn] = "drawn"
        else:
            out[turn] = "kept"
    return out


def speaks(team: Team, label: str) -> list[int]:
    """The turns that speak anew under an intervention, in order."""
    if label == "factual":
        return list(range(len(team.turns)))
    made = fates(team, change_of(team, label))
    return [turn for turn, fate in made.items() if fate == "drawn"]


def turns_of(team: Team, agents: Iterable[int]) -> frozenset[int]:
    """The turns that some agents write."""
    wanted = set(agents)
    return frozenset(i for i, turn in enumerate(team.turns) if turn.agent in wanted)


def read_agents(team: Team) -> tuple[int, ...]:
    """The agents whose message another agent reads."""
    written = {
        team.turns[read].agent
        for turn in team.turns
        for read in turn.reads
        if team.turns[read].agent != turn.agent
    }
    return tuple(sorted(written))


def consulted_agents(team: Team) -> tuple[int, ...]:
    """The agents whose message is read, or counted in a vote."""
    if team.answer == "vote":
        return tuple(range(team.agents))
    return read_agents(team)


def downstream(team: Team, agent: int) -> frozenset[int]:
    """The turns of others that read an agent's message, or one that was written after reading
    it.
    """
    own = turns_of(team, [agent])
    reached: set[int] = set()
    for i, turn in enumerate(team.turns):
        if i not in own and any(read in own or read in reached for read in turn.reads):
            reached.add(i)
    return frozenset(reached)


def named(name: str, agent: int) -> str:
    """The name in tables of an intervention on an agent, or on the whole team (ALL)."""
    return name if agent == ALL else f"{name}.{agent}"


def parse(label: str) -> tuple[str, int]:
    """File and agent (ALL: none) of a name in tables."""
    name, dot, agent = label.partition(".")
    return name, int(agent) if dot else ALL


def labels(team: Team, name: str, chosen: Sequence[int] | None = None) -> list[str]:
    """What an intervention is called in tables where it means something for a team: once, or once
    for each agent that it can change (and that is chosen).
    """
    module = load(name)
    agents = module.agents(team)
    if module.CHANGES == "team":
        return [named(name, ALL)] if agents else []
    return [named(name, a) for a in agents if chosen is None or a in chosen]


def change_of(team: Team, label: str) -> Change:
    """What becomes of the turns under an intervention, by its name in tables."""
    name, agent = parse(label)
    changed: Change = load(name).change(team, agent)
    return changed


def names() -> list[str]:
    """Names of all interventions: the files of this folder."""
    return sorted(file.name for file in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The intervention file of this name; `names()` says which exist."""
    return CONTRACT.require(importlib.import_module(f"{__name__}.{name}"))
