"""Verdicts by the grader that a protocol names, and which answers to one task are the same."""

from __future__ import annotations

import itertools
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from ccpo.benchmark import Task
from ccpo.grade import paper_graders, process, verifier

Key = tuple[str, str, str, int, str]  # benchmark, task, decoding, sample, intervention
Verdicts = list[verifier.Verdict]  # on the messages of an episode that answer for the team


def by_grader(grader: str, ours: verifier.Verdict, text: str, task: Task) -> verifier.Verdict:
    """The verdict on a message by a protocol's grader; ours on kinds that it was not used on."""
    if grader == "ours":
        return ours
    try:
        theirs = paper_graders.verdict(grader, text, task.truth, task.kind)
    except process.Late as late:
        return replace(ours, correct=False, reason=str(late), late=True)
    return ours if theirs is None else replace(ours, correct=theirs, late=False)


def classes_of(
    keys: Sequence[Key], tasks: Sequence[Task], judged: Sequence[Verdicts]
) -> list[tuple[list[int], int]]:
    """For each episode the classes of its answers among those of all samples of its task
    (verifier.ballots; programs are told apart by their text), and at the first sample how many
    comparisons between them were not reached.
    """
    samples: dict[tuple[str, str, str, str], list[int]] = defaultdict(list)
    for i, (name, task_id, decoding, _, kind) in enumerate(keys):
        samples[name, task_id, decoding, kind].append(i)
    groups = list(samples.values())
    votes = verifier.in_order(
        verifier.ballots,
        (
            _votes(tasks[group[0]], [verdict for i in group for verdict in judged[i]])
            for group in groups
        ),
    )
    out: list[tuple[list[int], int]] = [([], 0)] * len(keys)
    for group, cast in zip(groups, votes, strict=True):
        codes = iter(cast.codes)
        for place, i in enumerate(group):
            own = list(itertools.islice(codes, len(judged[i])))
            out[i] = (own, 0 if place else cast.late)
    return out


def _votes(task: Task, verdicts: Verdicts) -> tuple[object, ...]:
    """Arguments of `verifier.ballots`."""
    arguments = (verdicts, task.kind, task.tolerance)
    return (*arguments, verifier.spelling) if task.kind == "code" else arguments


def lot(key: Key) -> float:
    """A number in [0, 1) for each episode: a tied vote is decided by it, always alike."""
    return zlib.crc32(repr(key).encode()) / 2**32
