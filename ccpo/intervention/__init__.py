"""Changes to an evaluated team: one file each, found by its name. This file holds only the
contract.

An intervention file has
  VERSION
      a whole number, bumped when what it does changes on purpose
  LABEL
      what happens, in the few words of a figure's legend
  POLICIES
      who speaks: the "trained" policies, or the "untrained" ones that training began with
  fits(team) -> bool
      whether it means something for a team
  present(team) -> turns
      the turns that are there: a role whose readings are all left out may take another role
      (ccpo/team)
  speaks(team) -> turns
      of these the turns that speak anew, in order
  hears(reading) -> texts
      what a turn hears [episodes][messages read]
`factual` is the team as it is, which every evaluation plays first.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from ccpo.contract import Contract
from ccpo.team import Team

CONTRACT = Contract(
    constants={"VERSION": int, "LABEL": str, "POLICIES": ("trained", "untrained")},
    functions={"fits": ("team",), "present": ("team",), "speaks": ("team",), "hears": ("reading",)},
)


@dataclass(frozen=True)
class Reading:
    """What a turn could hear: of the turns that it `reads` and that are present, the `messages` of
    this pass, and those of the `factual` one; each text by turn and episode. A task has `samples`
    episodes, which follow each other.
    """

    reads: Sequence[int]
    messages: Mapping[int, Sequence[str]]
    factual: Mapping[int, Sequence[str]]
    episodes: int
    samples: int

    def unchanged(self) -> list[list[str]]:
        """The messages of this pass."""
        return [[self.messages[turn][i] for turn in self.reads] for i in range(self.episodes)]


def everybody(team: Team) -> tuple[int, ...]:
    """All turns of a team."""
    return tuple(range(len(team.turns)))


def readers(team: Team) -> tuple[int, ...]:
    """The turns that read an earlier one."""
    return tuple(turn for turn in everybody(team) if team.turns[turn].reads)


def names() -> list[str]:
    """Names of all interventions: the files of this folder."""
    return sorted(file.name for file in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The intervention file of this name; `names()` says which exist."""
    return CONTRACT.require(importlib.import_module(f"{__name__}.{name}"))


def fitting(team: Team, chosen: Sequence[str]) -> list[str]:
    """Those of the chosen interventions that mean something for a team."""
    return [name for name in chosen if load(name).fits(team)]
