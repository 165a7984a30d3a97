"""A condition's factual answers, and what they are worth under other choices: which grader, which
tie rule, which summary of several samples, which items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ccpo import team
from ccpo.evaluate.condition import Runs, Tables
from ccpo.grade.paper_graders import GRADERS
from ccpo.manifest import PlannedCondition
from ccpo.publish.statistics import FACTUAL
from ccpo.team import vote_outcome

OURS = "ours"
TIES = ("wrong", "uniform", "first")


@dataclass(frozen=True)
class Answers:
    """Factual answers on one benchmark under one decoding: `accuracy` and `fraction` (of tests
    passed), by grader and by tie rule what they would be worth; each by seed [tasks, samples], NaN
    where a grader gave no verdict. `defect` [tasks]: something is known to be wrong with the item.
    """

    tasks: np.ndarray
    defect: np.ndarray
    accuracy: Mapping[int, np.ndarray]
    fraction: Mapping[int, np.ndarray]
    graders: Mapping[str, Mapping[int, np.ndarray]]
    ties: Mapping[str, Mapping[int, np.ndarray]]


def of_runs(runs: Runs, decoding: str) -> Answers:
    """The answers of a condition on the benchmark of the primary metric."""
    return of_tables(runs.planned, runs.tables, decoding)


def of_tables(planned: PlannedCondition, tables: Tables, decoding: str) -> Answers:
    """As `of_runs`, from the tables `scores` and (where they are there) `graders` by seed. Seeds
    were played alike (marks.refuse_unequal).
    """
    name = planned.evaluated[0]
    frames = {seed: _sorted(t["scores"], name, decoding) for seed, t in sorted(tables.items())}
    first = next(iter(frames.values()))
    tasks = first.task_id.unique()
    shape = (len(tasks), -1)
    graded = {
        seed: _graded(frame, tables[seed].get("graders"), name, decoding)
        for seed, frame in frames.items()
    }
    return Answers(
        tasks=np.asarray(tasks),
        defect=first.defect.to_numpy().reshape(shape)[:, 0],
        accuracy={s: frame.accuracy.to_numpy().reshape(shape) for s, frame in frames.items()},
        fraction={s: frame.fraction.to_numpy().reshape(shape) for s, frame in frames.items()},
        graders={
            grader: {s: of_seed[grader].to_numpy().reshape(shape) for s, of_seed in graded.items()}
            for grader in GRADERS
            if all(of_seed[grader].notna().any() for of_seed in graded.values())
        },
        ties=_tied(frames, shape) if first.votes.ne("").any() else {},
    )


def _sorted(scores: pd.DataFrame, name: str, decoding: str) -> pd.DataFrame:
    own = (
        (scores.benchmark == name)
        & (scores.decoding == decoding)
        & (scores.intervention == FACTUAL)
    )
    return scores[own].sort_values(["task_id", "sample"])


def _graded(
    frame: pd.DataFrame, graders: pd.DataFrame | None, name: str, decoding: str
) -> pd.DataFrame:
    """The papers' verdicts beside ours, in the same order; NaN where there is none."""
    if graders is None:
        return frame.assign(**dict.fromkeys(GRADERS, np.nan))
    own = graders[(graders.benchmark == name) & (graders.decoding == decoding)]
    keys = ["task_id", "sample"]
    return frame[keys].merge(own[[*keys, *GRADERS]], how="left", on=keys)


def _tied(
    frames: Mapping[int, pd.DataFrame], shape: tuple[int, int]
) -> dict[str, dict[int, np.ndarray]]:
    """What the same votes are worth under each tie rule."""
    codes = {
        seed: np.array([vote.split() for vote in frame.votes], dtype=int)
        for seed, frame in frames.items()
    }
    return {
        tie: {seed: vote_outcome(of_seed, tie).reshape(shape) for seed, of_seed in codes.items()}
        for tie in TIES
    }


def declared_tie(planned: PlannedCondition) -> str:
    """The tie rule of a condition's team; "" where it does not vote."""
    choice = planned.config.get("team")
    if not isinstance(choice, dict):
        return ""
    params = choice.get("params")
    built = team.load(str(choice["name"])).team(**(params if isinstance(params, dict) else {}))
    return str(built.tie) if built.answer == "vote" else ""
