"""The verdicts of a run's answers as arrays, by what was played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ccpo.publish.statistics import FACTUAL


@dataclass(frozen=True)
class Played:
    """What was played: a benchmark under a decoding and an intervention."""

    benchmark: str
    decoding: str
    intervention: str = FACTUAL

    def __str__(self) -> str:
        return f"{self.intervention} on {self.benchmark}, {self.decoding}"


@dataclass(frozen=True)
class Marks:
    """Accuracy of answers from 0 to 1. tasks: [tasks] ids, sorted; values: [tasks, samples];
    ballots: [tasks, samples], the class of each answer within its task (table `scores`), and
    tokens: [tasks], generated for an answer on average; both None where nobody asks for them.
    """

    tasks: np.ndarray
    values: np.ndarray
    ballots: np.ndarray | None = None
    tokens: np.ndarray | None = None

    @property
    def mean(self) -> float:
        """Mean over tasks and samples."""
        return float(self.values.mean())


def of_run(scores: pd.DataFrame, run: str) -> dict[Played, Marks]:
    """The marks of a run's table of scores, in the order in which it was played.

    Raises:
        ValueError: tasks have unequal numbers of samples; names the run and what was played.
    """
    names = ["benchmark", "decoding", "intervention"]
    grouped = scores.groupby(names, sort=False)
    keys = grouped.ngroup().to_numpy()
    played = [Played(*row) for row in scores[names].drop_duplicates().itertuples(index=False)]
    codes, tasks = pd.factorize(scores["task_id"], sort=True)
    order = np.lexsort((scores["sample"].to_numpy(), codes, keys))
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    columns = {name: scores[name].to_numpy() for name in ("accuracy", "ballot", "n_tokens")}
    out = {}
    for which, rows in zip(played, np.split(order, starts[1:]), strict=True):
        own, counts = np.unique(codes[rows], return_counts=True)
        if counts.min() != counts.max():
            fewest = own[counts.argmin()]
            raise ValueError(
                f"run {run}, {which}: task {tasks[fewest]} has {counts.min()} samples, others "
                f"have {counts.max()}. Remedy: delete its scores and evaluate it again"
            )
        values, ballots, tokens = (
            column[rows].reshape(len(own), -1) for column in columns.values()
        )
        out[which] = Marks(np.asarray(tasks[own]), values, ballots, tokens.mean(axis=1))
    return out


def refuse_unequal(
    marks: Mapping[str, Mapping[Played, Marks]], where: str, samples: bool = True
) -> None:
    """Refuses runs (or conditions), by name, of which one was not played as the others were.
    `samples`: on as many samples of a task, too.

    Raises:
        ValueError: names the place, the run, what it lacks, and the remedy.
    """
    for played in dict.fromkeys(played for of_run in marks.values() for played in of_run):
        for name, of_run in marks.items():
            if played not in of_run:
                raise ValueError(
                    f"{where} {name}: {played} is missing, which others have. Remedy: delete its "
                    "scores and evaluate it again"
                )
        own = {name: of_run[played] for name, of_run in marks.items()}
        _refuse_unequal(own, where, played, samples)


def _refuse_unequal(marks: Mapping[str, Marks], where: str, played: Played, samples: bool) -> None:
    first = next(iter(marks.values()))
    if all(
        np.array_equal(own.tasks, first.tasks)
        and (not samples or own.values.shape == first.values.shape)
        for own in marks.values()
    ):
        return
    every = np.unique(np.concatenate([own.tasks for own in marks.values()]))
    most = max(own.values.shape[1] for own in marks.values())
    for name, own in marks.items():
        if len(own.tasks) < len(every):
            raise ValueError(
                f"{where} {name}: {played} has {len(own.tasks)} of the {len(every)} tasks that "
                "were scored in all. Remedy: delete its scores and evaluate it again"
            )
        if samples and own.values.shape[1] < most:
            raise ValueError(
                f"{where} {name}: {played} has {own.values.shape[1]} answers a task, others have "
                f"{most}. Remedy: delete its scores and evaluate it again"
            )


def minus(a: Mapping[int, np.ndarray], b: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Differences [tasks, samples] over the seeds of both; [tasks, 1] of the tasks' means, where
    there are not as many samples.
    """
    both = sorted(set(a) & set(b))
    if all(a[seed].shape == b[seed].shape for seed in both):
        return {seed: a[seed] - b[seed] for seed in both}
    return {
        seed: a[seed].mean(axis=1, keepdims=True) - b[seed].mean(axis=1, keepdims=True)
        for seed in both
    }
