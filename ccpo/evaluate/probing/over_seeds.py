"""What an experiment's probes say, over its seeds: from the diagnostics of every run to the part of
stats.json that holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ccpo.evaluate import stats as st
from ccpo.evaluate.condition import observed
from ccpo.evaluate.probing.fidelity import BINS
from ccpo.manifest import PlannedCondition, PlannedProbe, TrainingManifest
from ccpo.publish.probe_statistics import (
    Bin,
    Calibration,
    MethodProbe,
    ProbeLeftOut,
    ProbeRow,
    Probes,
    RunProbe,
    TurnProbe,
    read_run_probe,
)

# quantities of a turn and of a method, as they are called in stats.json
OF_TURN = ("reward", "mixed", "reliability", "signal")
OF_INFLUENCE = {
    "value": "influence",
    "floor": "influence floor",
    "plug_in": "influence, uncorrected",
    "null": "influence, uncorrected, shuffled",
    "entropy": "entropy of the answer",
}
OF_METHOD = ("fidelity", "floor", "correlation", "variance", "slope", "calls")
SHARES = {"reward", "mixed"}

Place = tuple[str, float]  # condition, share of the training
Quantity = tuple[str, str]  # method ("": none), quantity


def files(planned: TrainingManifest, runs: Path) -> dict[tuple[str, float, int], Path]:
    """The diagnostics that are there, by condition, share of the training and seed."""
    probe = planned.probe
    if probe is None:
        return {}
    named = {
        (c.label, at, seed): runs / run / "probe" / f"{probe.stem(at)}.diagnostics.json"
        for c in planned.conditions
        for at in shares(probe, c)
        for seed, run in c.runs.items()
    }
    return {place: path for place, path in named.items() if path.is_file()}


def shares(probe: PlannedProbe, condition: PlannedCondition) -> tuple[float, ...]:
    """The shares of the training at which the runs of a condition are probed: of one that trains
    nothing its start alone.
    """
    train = condition.config["train"]
    assert isinstance(train, dict)
    return probe.at if train["steps"] else (0.0,)


def of_experiment(planned: TrainingManifest, runs: Path) -> Probes | None:
    """What the probes of an experiment say; None where it asks for none.

    Raises:
        ValueError: a file is no such document.
    """
    probe = planned.probe
    if probe is None:
        return None
    there = {place: read_run_probe(path) for place, path in files(planned, runs).items()}
    rows: list[ProbeRow] = []
    calibration: list[Calibration] = []
    left_out: dict[tuple[str, str], ProbeLeftOut] = {}
    missing: list[str] = []
    for condition in planned.conditions:
        for at in shares(probe, condition):
            seeds = {
                s: there[key] for s in condition.runs if (key := (condition.label, at, s)) in there
            }
            absent = [str(seed) for seed in condition.runs if seed not in seeds]
            if absent:
                missing.append(f"{condition.label} at {at:.0%}: seeds {', '.join(absent)}")
            measured = Measured(condition, at, seeds)
            rows += measured.rows()
            calibration += measured.calibration()
            left_out |= {(row.condition, row.method): row for row in measured.left_out()}
    return Probes(
        id=probe.id,
        at=probe.at,
        rows=tuple(rows),
        calibration=tuple(calibration),
        left_out=tuple(left_out.values()),
        missing=tuple(missing),
        sentences=tuple(sentences(rows)),
    )


@dataclass(frozen=True)
class Measured:
    """The diagnostics of a condition at one share of its training, by seed."""

    condition: PlannedCondition
    at: float
    seeds: Mapping[int, RunProbe]

    def rows(self) -> Iterator[ProbeRow]:
        """Every quantity with its interval over replicates."""
        for number, turns in enumerate(self._turns()):
            by_seed: dict[Quantity, dict[int, float]] = {}
            for seed, turn in turns.items():
                for place, value in quantities(turn):
                    if value is not None:
                        by_seed.setdefault(place, {})[seed] = value
            agent = next(iter(turns.values())).agent
            for (method, quantity), values in by_seed.items():
                within = st.SHARE if quantity in SHARES else st.ANY
                row = observed(values, {s: self.condition.bases[s] for s in values}, within)
                yield ProbeRow(
                    condition=self.condition.label,
                    at=self.at,
                    turn=number,
                    agent=agent,
                    method=method,
                    quantity=quantity,
                    **dict(row),
                    by_seed=values,
                )

    def calibration(self) -> Iterator[Calibration]:
        """The fifths of each method's credit, those of the seeds weighed by their messages."""
        for number, turns in enumerate(self._turns()):
            methods = {m.method: None for turn in turns.values() for m in turn.methods}
            for method in methods:
                own = [m for turn in turns.values() for m in turn.methods if m.method == method]
                yield Calibration(
                    condition=self.condition.label,
                    at=self.at,
                    turn=number,
                    method=method,
                    bins=_pooled(own),
                )

    def left_out(self) -> Iterator[ProbeLeftOut]:
        """The methods that cannot be measured."""
        for run in self.seeds.values():
            for turn in run.turns:
                for row in turn.left_out:
                    yield ProbeLeftOut(condition=self.condition.label, **dict(row))

    def _turns(self) -> list[dict[int, TurnProbe]]:
        """By turn and seed."""
        count = max((len(run.turns) for run in self.seeds.values()), default=0)
        return [{s: run.turns[turn] for s, run in self.seeds.items()} for turn in range(count)]


def quantities(turn: TurnProbe) -> Iterator[tuple[Quantity, float | None]]:
    """All numbers of a turn, by method and name."""
    for name in OF_TURN:
        yield ("", name), getattr(turn, name)
    if turn.influence:
        for field, name in OF_INFLUENCE.items():
            yield ("", name), getattr(turn.influence, field)
        # 1 where a seed's message moves the answer: of many seeds that do not, 5 % by chance
        yield ("", "influence seen"), float(turn.influence.p <= 0.05)
    for method in turn.methods:
        for name in OF_METHOD:
            yield (method.method, name), getattr(method, name)
    for row in turn.published:
        yield (row.method, f"published {row.definition}"), row.value


def _pooled(methods: Sequence[MethodProbe]) -> tuple[Bin, ...]:
    """Bins of several seeds as at most five, of about as many messages each, by their credit."""
    every = sorted((b for method in methods for b in method.bins), key=lambda b: b.credit)
    weight = np.array([each.n for each in every], float)
    middle = weight.cumsum() - weight / 2
    fifth = np.minimum((middle / weight.sum() * BINS).astype(int), BINS - 1)
    out = []
    for k in np.unique(fifth):
        own = np.flatnonzero(fifth == k)
        out.append(
            Bin(
                n=int(weight[own].sum()),
                credit=float(np.average([every[i].credit for i in own], weights=weight[own])),
                target=float(np.average([every[i].target for i in own], weights=weight[own])),
            )
        )
    return tuple(out)


def sentences(rows: Sequence[ProbeRow]) -> Iterator[str]:
    """One for each condition, share and turn that something follows: whether the message moves the
    answer, and whether the shuffled message would.
    """
    index = {(r.condition, r.at, r.turn, r.quantity): r for r in rows if not r.method}
    for (condition, at, turn, quantity), row in index.items():
        if quantity != "influence":
            continue
        seen = index[condition, at, turn, "influence seen"]
        entropy = index[condition, at, turn, "entropy of the answer"]
        seeds = sum(value > 0 for value in seen.by_seed.values())
        band = "" if row.ci_low is None else f" [{row.ci_low:.3f}, {row.ci_high:.3f}]"
        yield (
            f"In condition {condition} at {at:.0%} of the training, agent {row.agent}'s message "
            f"(turn {turn}) moves the team's answer by {row.mean:.3f}{band} of "
            f"{entropy.mean:.3f} nats; told from shuffled messages in {seeds} of {row.n} seeds."
        )
