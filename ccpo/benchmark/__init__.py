"""Benchmarks: one file each, found by its name. This file holds only the contract.

A benchmark file has
  VERSION                      bumped when its tasks or prompts change on purpose
  SOURCES                      split -> Source (pinned bytes); empty for a procedural benchmark
  tasks(split, raw, **params)  -> list of Task; `raw` maps a split to its verified file; params are keyword-only and are the config schema
  demos(n, **params)           -> n Demo: how each kind of role answers, for the warm start and for chat examples
  EXAMPLES                     at least three (completion, truth, accepted) triples, checked by the conformance test
  DEFECTS                      known defects of the source, in words
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Task:
    """One item: an id unique in the benchmark, the question as asked, the true answer and its kind (see play/verifier.py)."""

    task_id: str
    question: str
    truth: str
    kind: str


@dataclass(frozen=True)
class Demo:
    """One solved question: `plan` stops before the answer, `conclusion` answers given the plan, `solution` answers alone.

    `correct` says whether the conclusion is right, `shares` (tenths that sum to one) how far that is the plan's and the conclusion's doing.
    """

    question: str
    plan: str
    conclusion: str
    solution: str
    correct: bool = True
    shares: tuple[float, float] = (0.5, 0.5)


@dataclass(frozen=True)
class Source:
    """Pinned bytes: where they come from, their hash, and their name below the raw data folder (or a mirror of it)."""

    url: str
    sha256: str
    path: str
    rows: int
    licence: str


def names() -> list[str]:
    """Names of all benchmarks: the files of this folder."""
    return sorted(found.name for found in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The benchmark of this name; `names()` says which exist."""
    return importlib.import_module(f"{__name__}.{name}")
