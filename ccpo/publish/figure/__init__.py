"""Figures: one file each, found by its name. This file holds only the contract.

A figure file has
  KIND                        of which statistics it is drawn: of a "training" experiment, or an
                              "oracle" one
  ORDER                       its place on the page
  CAPTION                     what is drawn, and how to read it
  applies(contents) -> bool   whether an experiment has something to draw in it, known before
                              anything is computed
  collect(numbers) -> frame   the plotted numbers, tidy, from stats.json and nothing else; its CSV
                              holds this frame
  paint(frame, axes, colours) draws a panel; `colours`: of the conditions in the frame
  height(frame) -> inches     of a panel, where it is not the usual one; panels then share no axis
Titles say what is shown, never what it means. Helpers are in _axes.py and _oracle.py.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ccpo.contract import Contract
from ccpo.manifest import TrainingManifest

CONTRACT = Contract(
    constants={"KIND": ("training", "oracle"), "ORDER": int, "CAPTION": str},
    functions={
        "applies": ("contents",),
        "collect": ("numbers",),
        "paint": ("frame", "axes", "colours"),
    },
)


@dataclass(frozen=True)
class Contents:
    """What an experiment is known to hold before it is run: whether anything is trained, how many
    decodings its evaluations have at most, the interventions that mean something for one of its
    teams, whether any conditions are compared, the largest number of samples of a task, whether
    credit is measured on its runs, and whether agents are crossed.
    """

    kind: str
    trained: bool = True
    decodings: int = 1
    interventions: frozenset[str] = frozenset()
    compared: bool = False
    samples: int = 1
    probed: bool = False
    crossed: bool = False


def contents_of(planned: TrainingManifest) -> Contents:
    """What an experiment that trains holds under the protocol that claims are made under."""
    configs: list[Any] = [condition.config for condition in planned.conditions]
    return Contents(
        "training",
        trained=any(config["train"]["steps"] for config in configs),
        decodings=len(planned.primary.decodings),
        interventions=frozenset(kind for c in planned.conditions for kind in c.changes),
        compared=bool(planned.compare or any(c.repeats for c in planned.conditions)),
        samples=max(protocol.samples for protocol in planned.protocols),
        probed=planned.probe is not None,
        crossed=bool(planned.cross),
    )


def names() -> list[str]:
    """Names of all figures in their order: the files of this folder, less those that begin with an
    underscore.
    """
    files = [item.name for item in pkgutil.iter_modules(__path__) if not item.name.startswith("_")]
    return sorted(files, key=lambda name: (load(name).ORDER, name))


def load(name: str) -> ModuleType:
    """The figure file of this name; `names()` says which exist.

    Raises:
        ValueError: the file breaks the contract; says what is missing and how to write it.
    """
    return CONTRACT.require(importlib.import_module(f"{__name__}.{name}"))


def of_contents(contents: Contents) -> list[str]:
    """The figures that an experiment has something to draw in."""
    return [
        name
        for name in names()
        if contents.kind == load(name).KIND and load(name).applies(contents)
    ]
