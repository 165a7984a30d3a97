"""Benchmarks: one file each, found by its name. This file holds only the contract.

A benchmark file has
  VERSION
      a whole number, bumped when its tasks or prompts change on purpose
  SOURCES
      name -> Source (pinned bytes); empty for a procedural benchmark
  SPLITS
      split -> number of its items before any is dropped (0: as many as the parameters ask for).
      `train` is learnt from, `test` is evaluated on; others are for whoever names them
  tasks(split, raw, **params) -> list of Task
      one for each item; `raw` maps a name of SOURCES to its verified file; params are keyword-only
      and are the config schema
  demos(n, **params) -> list of n Demo
      how each kind of role answers, for the warm start and for chat examples
  FORM
      how an answer is to be given, the words after "the final answer": BOXED, or CODE for a program
  EXAMPLES
      at least three (completion, truth, kind, accepted), checked by the conformance test
  DEFECTS
      known defects of the source, in words
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import ClassVar, Literal

from ccpo.contract import Contract
from ccpo.grade import BOXED as BOXED
from ccpo.grade import CODE as CODE
from ccpo.grade.sandbox import plain

CONTRACT = Contract(
    constants={
        "VERSION": int,
        "SOURCES": dict,
        "SPLITS": dict,
        "FORM": (BOXED, CODE),
        "EXAMPLES": list,
        "DEFECTS": str,
    },
    functions={"tasks": ("split", "raw"), "demos": ("n",)},
    schema="tasks",
    accepts=("demos",),
)


@dataclass(frozen=True)
class Task:
    """One item: an id unique in the benchmark, the question as asked, the true answer and its kind
    (see grade/verifier.py).

    tolerance: relative error that the set declares acceptable where the truth is an inexact number
        (0: none).
    origin: the item this one is a copy of where its text may have been edited ("mbpp/601"); equal
        origins are the same item.
    gold: kind code: a program that should pass the tests in `truth`. Not shown to anyone.
    flaw: why this item cannot be used ("": it can). The data door drops it and says so.
    """

    task_id: str
    question: str
    truth: str
    kind: str
    tolerance: float = 0.0
    origin: str = ""
    gold: str = ""
    flaw: str = ""
    defect: str = ""


@dataclass(frozen=True)
class Demo:
    """One solved question: `plan` stops before the answer, `conclusion` answers given the plan,
    `solution` answers alone.

    `correct` says whether the conclusion is right, `shares` (tenths that sum to one) how far that
    is the plan's and the conclusion's doing.
    """

    question: str
    plan: str
    conclusion: str
    solution: str
    correct: bool = True
    shares: tuple[float, float] = (0.5, 0.5)


@dataclass(frozen=True)
class Habit:
    """How often a role works a step the wrong way, by the step's operator: the chances at the
    smallest and at the largest operand, and linear between. Above 1/2 the wrong way is the usual
    one.
    """

    plus: tuple[float, float] = (0.0, 0.0)
    minus: tuple[float, float] = (0.0, 0.0)
    __pydantic_config__: ClassVar[dict[str, str]] = {
        "extra": "forbid"
    }  # read from models.yaml, where an unknown key is an error


@dataclass(frozen=True)
class Habits:
    """Ways of working that demonstrations teach each role, for the reward to turn round. A copy of
    them is wrong at every temperature where the wrong way is the usual one, so that being surer of
    itself does not help it.

    plan, conclusion, solution: of the fields of a Demo. alone: chance that a conclusion works the
    whole problem without the plan. They make an agent's message necessary (plan right, solution
    wrong), replaceable (all alike), idle (alone: 1), or harmful (plan wrong, solution right).
    """

    plan: Habit = Habit()
    conclusion: Habit = Habit()
    solution: Habit = Habit()
    alone: float = 0.0
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True)
class Source:
    """Pinned bytes: where they come from, their hash, their name below the raw data folder (or a
    mirror of it), rows in the file.
    """

    url: str
    sha256: str
    path: str
    rows: int
    licence: str


Only = Literal["all", "clean"]


def known(tasks: Sequence[Task], defects: Mapping[str, str], only: Only) -> list[Task]:
    """The tasks, each with what is known to be wrong with it (task_id -> defect). `clean`: those
    with a defect are flawed, so that the data door drops them and says why.
    """
    marked = [replace(task, defect=defects.get(task.task_id, task.defect)) for task in tasks]
    if only == "all":
        return marked
    return [replace(task, flaw=task.flaw or task.defect) for task in marked]


def github(repository: str, commit: str, path: str) -> str:
    """Where a file of a public repository lies at a commit."""
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"


@dataclass(frozen=True)
class Comparison:
    """How what a call gives is compared with what is expected.

    compare: "equal"; or "root": expected are coefficients, lowest first, of polynomials of which
        the call should give a root, up to atol.
    rtol, atol: an answer of the expected type may differ from it, number by number, by atol + rtol
        * |expected| if atol is not 0; float_atol takes the place of an atol of 0 where a float, or
        a list or tuple of floats, is expected.
    """

    compare: str = "equal"
    rtol: float = 0.0
    atol: float = 0.0
    float_atol: float = 0.0


EQUAL = Comparison()


def checks(
    calls: Sequence[str],
    expected: Sequence[object] | None = None,
    *,
    preamble: str = "",
    setup: str = "",
    also: Mapping[int, Sequence[object]] | None = None,
    compared: Comparison = EQUAL,
) -> str:
    """The truth of a task of kind "code" (see grade/sandbox/programs.py): what to call, and what
    should come back.

    preamble: what the question gives and the program may leave out (imports, helpers), run before
    it. calls: Python expressions, evaluated in order after the program and `setup`. A call may
    bring what it gives into the form that is compared, as in `set(f(1))`. None of them may hold the
    expected value: the program can read them.
    expected: plain data for each call (grade/sandbox/plain.py); None: what the gold program gives,
        filled in by `programs.complete`.
    also: call -> further values that are right.
    """
    truth: dict[str, object] = {"preamble": preamble, "setup": setup, "calls": list(calls)}
    truth |= asdict(compared)
    if also:
        truth["also"] = {
            str(call): [plain.write(value) for value in values] for call, values in also.items()
        }
    if expected is not None:
        truth["expected"] = [plain.write(value) for value in expected]
    return json.dumps(truth)


def names() -> list[str]:
    """Names of all benchmarks: the files of this folder that begin with no underscore."""
    return sorted(
        file.name for file in pkgutil.iter_modules(__path__) if not file.name.startswith("_")
    )


def load(name: str) -> ModuleType:
    """The benchmark of this name; `names()` says which exist."""
    return CONTRACT.require(importlib.import_module(f"{__name__}.{name}"))
