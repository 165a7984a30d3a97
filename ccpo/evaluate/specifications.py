"""Specification curve (Simonsohn, Simmons & Nelson 2020, Nature Human Behaviour 4): a declared
comparison under every choice that the experiment has answers for, so that it is seen whether the
claim hangs on one.

Choices of the answers are crossed: protocol, decoding, grader (teams whose last message answers,
where the papers' graders were used), tie rule (teams that vote), metric where a task has several
samples (their mean; or whether any is right, which is how C3's P@10 is published) and where a
program passes some tests (all of them; or their share, as published), and items (all; or those of
no known defect). Beside them stands the reward of training at its end and at equal tokens,
evaluator calls or seconds. Nothing is adjusted: the declared choice is the claim, the others say
what it hangs on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ccpo import schema
from ccpo.evaluate import answers, condition, marks, referee_sentences, sentences
from ccpo.evaluate import stats as st
from ccpo.evaluate.answers import OURS, TIES, Answers
from ccpo.evaluate.condition import Runs
from ccpo.manifest import PlannedCondition, PlannedProtocol, TrainingManifest
from ccpo.publish.interval import Interval, Row
from ccpo.publish.referee_statistics import Matching, Specification, SpecificationCurve

LAST = 0.1  # of the updates within a budget, over which training reward is averaged
MEAN = "mean of samples"
ANY = "any sample right"
SHARE = "share of tests"
RESOURCES = {"tokens": "generated_tokens", "calls": "evaluator_calls", "seconds": "seconds"}

BySeed = Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Read:
    """One way to read answers; "" where there is no such choice."""

    grader: str
    tie: str
    metric: str
    clean: bool

    def choices(self) -> dict[str, str]:
        """By name of the choice."""
        named = {"grader": self.grader, "tie rule": self.tie, "metric": self.metric}
        items = {"items": "without known defects" if self.clean else "all"}
        return {**{name: value for name, value in named.items() if value}, **items}


@dataclass(frozen=True)
class Under:
    """What both sides answered under a protocol and a decoding (its name in a sentence); `grader`:
    whose verdicts the protocol's accuracies are made of.
    """

    protocol: str
    decoding: str
    a: Answers
    b: Answers
    grader: str = OURS


@dataclass(frozen=True)
class Sides:
    """A declared comparison: both conditions' runs, base models of both by seed, declared tie."""

    a: Runs
    b: Runs

    @property
    def bases(self) -> dict[int, str]:
        """By each seed that both have."""
        both = sorted(set(self.a.bases) & set(self.b.bases))
        return {seed: f"{self.a.bases[seed]}, {self.b.bases[seed]}" for seed in both}

    @property
    def tie(self) -> str:
        """The declared tie rule of the side that votes; "" of none."""
        return answers.declared_tie(self.a.planned) or answers.declared_tie(self.b.planned)


def curves(
    planned: TrainingManifest, there: Mapping[str, Runs], folder: Path, pairs: Iterable[Pair]
) -> tuple[SpecificationCurve, ...]:
    """Of each declared comparison of which both sides are there; `folder`: of the runs."""
    cached: dict[tuple[str, str, str], Answers | None] = {}

    def read(label: str, protocol: PlannedProtocol, decoding: str) -> Answers | None:
        key = (label, protocol.id, decoding)
        if key not in cached:
            cached[key] = _answers(there[label], planned, protocol, folder, decoding)
        return cached[key]

    out = []
    for a, b in pairs:
        under = [
            Under(
                protocol.name,
                sentences.decoded(temperature),
                ours,
                theirs,
                str(protocol.config.get("grader", OURS)),
            )
            for protocol in planned.protocols
            for decoding, temperature in protocol.decodings.items()
            if (ours := read(a, protocol, decoding)) and (theirs := read(b, protocol, decoding))
        ]
        sides = Sides(there[a], there[b])
        spent = {label: _spent(there[label], folder) for label in (a, b)}
        out.append(curve(sides, under, (spent[a], spent[b]), planned.token_tolerance))
    return tuple(out)


Pair = tuple[str, str]


def _answers(
    runs: Runs, planned: TrainingManifest, protocol: PlannedProtocol, folder: Path, decoding: str
) -> Answers | None:
    """A condition's answers under a protocol; None where it was not played so."""
    if protocol == planned.primary:
        return answers.of_runs(runs, decoding)
    tables = other_tables(runs.planned, protocol, folder)
    if set(tables) != set(runs.tables):
        return None
    return answers.of_tables(runs.planned, tables, decoding)


def other_tables(
    planned: PlannedCondition, protocol: PlannedProtocol, folder: Path
) -> dict[int, dict[str, pd.DataFrame]]:
    """By seed, the tables of an evaluation by another protocol, of the seeds that have both."""
    paths = {s: paths_of(protocol.folder(folder / run)) for s, run in planned.runs.items()}
    return {
        seed: {name: schema.read_table(path, name).to_pandas() for name, path in own.items()}
        for seed, own in paths.items()
        if all(path.is_file() for path in own.values())
    }


def paths_of(evaluation: Path) -> dict[str, Path]:
    """The tables that answers are read from."""
    return {name: evaluation / f"{name}.parquet" for name in ("scores", "graders")}


def curve(
    sides: Sides, under: list[Under], spent: tuple[Spent, Spent], tolerance: float
) -> SpecificationCurve:
    """A comparison under every choice; the first of `under` with the declared reading is the claim
    where its decoding is the primary one.
    """
    a = sides.a.planned
    b = sides.b.planned
    primary = sentences.decoded(a.decodings[a.primary])
    rows = []
    for pair in under:
        first = pair.protocol == under[0].protocol and pair.decoding == primary
        for reading, row, tasks in _read(sides, pair):
            choices = {"decoding": pair.decoding, **reading.choices()}
            if len({other.protocol for other in under}) > 1:
                choices = {"protocol": pair.protocol, **choices}
            declared = first and reading == Read(pair.grader, sides.tie, MEAN, clean=False)
            rows.append(_specification(row, choices, declared, tasks))
    rows += [
        _specification(row, {"metric": "training reward", "compared": resource}, False, 0)
        for resource, row in _rewarded(sides, spent)
    ]
    ordered = tuple(sorted(rows, key=lambda row: row.mean))
    matchings = tuple(_matchings(spent, tolerance))
    compared = referee_sentences.Compared(a.label, b.label, ordered, matchings)
    return SpecificationCurve(
        a=a.label,
        b=b.label,
        specifications=ordered,
        matchings=matchings,
        sentence=referee_sentences.hangs(compared),
    )


def _specification(
    row: Interval, choices: dict[str, str], declared: bool, tasks: int
) -> Specification:
    numbers = Interval(**{name: getattr(row, name) for name in Interval.model_fields})
    return Specification(
        **dict(numbers),
        choices=choices,
        declared=declared,
        tasks=tasks,
        verdict=sentences.side(numbers),
    )


def _read(sides: Sides, under: Under) -> Iterator[tuple[Read, Row, int]]:
    """Every reading that both sides' answers allow, its difference, and over how many tasks."""
    a = under.a
    b = under.b
    voting = bool(a.ties or b.ties)
    own = under.grader
    graders = [own, *(g for g in a.graders if g in b.graders and g != own)]
    samples = {of.shape[1] for side in (a, b) for of in side.accuracy.values()}
    metrics = [MEAN]
    if len(samples) == 1 and max(samples) > 1:
        metrics.append(ANY)
    partial = any(np.mod(of, 1).any() for side in (a, b) for of in side.fraction.values())
    if partial and not voting:
        metrics.append(SHARE)
    clean = [False, True] if a.defect.any() and not a.defect.all() else [False]
    ties = TIES if voting else ("",)
    for grader, tie, metric, without in itertools.product(graders, ties, metrics, clean):
        reading = Read(grader, tie, metric, without)
        if metric == SHARE and grader != own:
            continue
        ours = _values(a, reading, own)
        theirs = _values(b, reading, own)
        kept = ~_missing(ours) & ~_missing(theirs)
        if kept.any():
            values = marks.minus(_kept(ours, kept), _kept(theirs, kept))
            yield reading, condition.contrast(values, sides.bases), int(kept.sum())


def _values(of: Answers, reading: Read, own: str) -> dict[int, np.ndarray]:
    """Marks by seed [tasks, samples or 1], NaN of items that are left out. own: the grader that
    accuracies are made of.
    """
    if reading.grader != own:
        chosen = of.graders[reading.grader]
    elif reading.tie and of.ties:
        chosen = of.ties[reading.tie]
    else:
        chosen = of.fraction if reading.metric == SHARE else of.accuracy
    summed = {
        seed: values.max(axis=1, keepdims=True) if reading.metric == ANY else values
        for seed, values in chosen.items()
    }
    if not reading.clean:
        return summed
    return {seed: np.where(of.defect[:, None], np.nan, v) for seed, v in summed.items()}


def _missing(values: BySeed) -> np.ndarray:
    """Tasks that some seed has no verdict on."""
    return np.any([np.isnan(v).any(axis=1) for v in values.values()], axis=0)


def _kept(values: BySeed, kept: np.ndarray) -> dict[int, np.ndarray]:
    return {seed: v[kept] for seed, v in values.items()}


# -- training at equal resources
# ------------------------------------------------------------------------------------------------

Spent = Mapping[int, pd.DataFrame]  # by seed: reward of each update, resources up to its end


def _spent(runs: Runs, folder: Path) -> dict[int, pd.DataFrame]:
    """By seed and update: the team's reward, and what training had cost by its end; without seconds
    where their table is missing.
    """
    out = {}
    for seed, tables in runs.tables.items():
        train = tables["train"]
        own = train[train.agent == train.agent.max()].sort_values("step").set_index("step")
        frame = own[["reward", "generated_tokens", "evaluator_calls"]].astype(float)
        path = folder / runs.planned.runs[seed] / "seconds.parquet"
        if path.is_file():
            seconds = schema.read_table(path, "seconds").to_pandas()
            frame["seconds"] = seconds.groupby("step").seconds.sum().cumsum().reindex(frame.index)
        out[seed] = frame
    return out


def _common(spent: tuple[Spent, Spent]) -> tuple[list[int], dict[str, str]]:
    """The seeds that both sides trained, and the resources that are known of all of them."""
    both = sorted(set(spent[0]) & set(spent[1]))
    seeds = [s for s in both if len(spent[0][s]) and len(spent[1][s])]
    frames = [side[s] for side in spent for s in seeds]
    known = {
        name: column
        for name, column in RESOURCES.items()
        if all(column in frame and frame[column].notna().all() for frame in frames)
    }
    return seeds, known


def _rewarded(sides: Sides, spent: tuple[Spent, Spent]) -> Iterator[tuple[str, Interval]]:
    """Differences of training reward at its end and at the smaller budget of each resource."""
    seeds, known = _common(spent)
    if not seeds:
        return
    budgets = {"at its end": "", **{f"at equal {name}": key for name, key in known.items()}}
    for name, column in budgets.items():
        values = {seed: _apart(spent[0][seed], spent[1][seed], column) for seed in seeds}
        bases = {seed: sides.bases[seed] for seed in seeds}
        yield name, condition.observed(values, bases, st.GAP)


def _apart(a: pd.DataFrame, b: pd.DataFrame, column: str) -> float:
    """Difference of a seed's rewards at the smaller budget of a resource; "": at the end."""
    budget = min(a[column].iloc[-1], b[column].iloc[-1]) if column else np.inf
    ours, theirs = (_reward(side, column, budget) for side in (a, b))
    return ours - theirs


def _reward(of: pd.DataFrame, column: str, budget: float) -> float:
    """Mean reward over the last updates within a budget, one at least."""
    within = of[of[column] <= budget] if column else of
    rows = within if len(within) else of.iloc[:1]
    return float(rows.reward.iloc[-max(1, round(LAST * len(rows))) :].mean())


def _matchings(spent: tuple[Spent, Spent], tolerance: float) -> Iterator[Matching]:
    """How far both sides' training was apart in each resource."""
    seeds, known = _common(spent)
    for name, column in known.items() if seeds else ():
        a, b = (float(np.mean([side[s][column].iloc[-1] for s in seeds])) for side in spent)
        apart = abs(a - b) / max(a, b, 1e-9)
        yield Matching(resource=name, a=a, b=b, apart=apart, matched=apart <= tolerance)
