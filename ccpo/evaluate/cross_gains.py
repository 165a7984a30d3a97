"""Statistics of cross-play: how good mixed teams are, and in which agent a gain lives.

For two teams a and b, y(S) is the accuracy of the team of a in which the agents S are from b. The
gain y(all) - y(none) is the sum of what each agent adds alone, y(i) - y(none), and of their fit,
what is left: the interaction of a factorial design in its reference coding. All differences are
paired over tasks, samples and seeds.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ccpo import schema
from ccpo.evaluate import condition, referee_sentences, sentences
from ccpo.evaluate import stats as st
from ccpo.evaluate.cross_play import Seats, joined, seatings, swapped
from ccpo.manifest import CrossPlan, TrainingManifest
from ccpo.publish.cross_statistics import CrossCell, CrossGain, CrossMarginal, CrossPlay
from ccpo.publish.interval import Row


@dataclass(frozen=True)
class Crossed:
    """Verdicts by seats and seed [tasks, samples]; `bases`: of each label by seed."""

    plan: CrossPlan
    marks: Mapping[Seats, Mapping[int, np.ndarray]]
    bases: Mapping[str, Mapping[int, str]]

    def of(self, seats: Seats) -> Mapping[int, np.ndarray]:
        """The marks of a team by seed."""
        return self.marks[seats]

    def owners(self, labels: Sequence[str]) -> dict[int, str]:
        """By seed the base models of these labels, which a replicate is."""
        seeds = next(iter(self.marks.values()))
        return {s: ", ".join(self.bases[label][s] for label in labels) for s in seeds}


def crossed(planned: TrainingManifest, experiment: Path) -> tuple[CrossPlay, ...]:
    """The statistics of every cross-play of an experiment, from its folder; one of which nothing is
    there is left out.
    """
    out = []
    for plan in map(functools.partial(_in_order, planned), planned.cross):
        tables = {seed: plan.table(experiment, seed) for seed in plan.seeds}
        played = {
            seed: schema.read_table(path, "cross").to_pandas()
            for seed, path in tables.items()
            if path.is_file()
        }
        if played:
            missing = [f"cross-play of {plan.team}, seed {s}" for s in tables if s not in played]
            out.append(statistics(read(plan, played, bases(planned, plan)), tuple(missing)))
    return tuple(out)


def _in_order(planned: TrainingManifest, plan: CrossPlan) -> CrossPlan:
    """The plan with its players in the order of the conditions, untrained ones last."""
    labels = [c.label for c in planned.conditions if c.label in plan.players]
    ordered = dict.fromkeys([*labels, *plan.players])
    return plan.model_copy(update={"players": {x: plan.players[x] for x in ordered}})


def tables(planned: TrainingManifest, experiment: Path) -> list[Path]:
    """The tables that are there."""
    every = [plan.table(experiment, seed) for plan in planned.cross for seed in plan.seeds]
    return [path for path in every if path.is_file()]


def bases(planned: TrainingManifest, plan: CrossPlan) -> dict[str, dict[int, str]]:
    """By label and seed, the base model that its run started from."""
    by_run = {
        run: planned_condition.bases[seed]
        for planned_condition in planned.conditions
        for seed, run in planned_condition.runs.items()
    }
    return {
        label: {seed: by_run[run] for seed, run in player.runs.items()}
        for label, player in plan.players.items()
    }


def read(
    plan: CrossPlan,
    tables: Mapping[int, pd.DataFrame],
    bases: Mapping[str, Mapping[int, str]],
) -> Crossed:
    """The marks of each team, from the table `cross` of each seed.

    Raises:
        ValueError: a team was not played on the tasks that the others were; names it.
    """
    marks: dict[Seats, dict[int, np.ndarray]] = {}
    for seed, table in tables.items():
        ordered = table.sort_values(["task_id", "sample"])
        wide = ordered.pivot(index=["task_id", "sample"], columns="seats", values="accuracy")
        shape = (wide.index.get_level_values(0).nunique(), -1)
        for seats in seatings(list(plan.players), len(plan.roles)):
            name = joined(seats)
            if name not in wide or wide[name].isna().any():
                raise ValueError(
                    f"cross-play of {plan.team}, seed {seed}: team {name} was not played on all "
                    f"tasks. Remedy: delete {plan.id}.s{seed}.parquet and run snakemake again"
                )
            marks.setdefault(seats, {})[seed] = wide[name].to_numpy().reshape(shape)
    return Crossed(plan, marks, bases)


def statistics(of: Crossed, left_out: tuple[str, ...] = ()) -> CrossPlay:
    """Accuracies, gains and marginal effects."""
    plan = of.plan
    labels = list(plan.players)
    agents = len(plan.roles)
    pairs = [(a, b) for a in labels for b in labels if a != b]
    first = next(iter(of.marks.values()))
    cells = [
        CrossCell(**dict(condition.share(own, of.owners(seats))), seats=seats)
        for seats, own in of.marks.items()
    ]
    return CrossPlay(
        team=plan.team,
        roles=plan.roles,
        labels=tuple(labels),
        benchmark=plan.benchmark,
        decoding=sentences.decoded(plan.temperature),
        tasks=len(next(iter(first.values()))),
        seeds=tuple(first),
        cells=tuple(cells),
        gains=tuple(gain(of, a, b) for a, b in pairs),
        marginals=tuple(marginal(of, x, agent) for agent in range(agents) for x in labels),
        left_out=left_out,
    )


def combined(of: Crossed, weights: Mapping[Seats, float], labels: Sequence[str]) -> Row:
    """A weighted sum of teams' accuracies with its interval over replicates, paired."""
    seeds = next(iter(of.marks.values()))
    values = {
        seed: np.sum([w * of.of(seats)[seed] for seats, w in weights.items()], axis=0)
        for seed in seeds
    }
    owners = of.owners(labels)
    means = {seed: float(value.mean()) for seed, value in values.items()}
    noise = st.Noise(st.item_noise(values, owners))
    return Row(**dict(st.interval(st.replicates(means, owners), noise)), by_seed=means)


def gain(of: Crossed, a: str, b: str) -> CrossGain:
    """What the team of b has over the team of a, and where it lives."""
    agents = range(len(of.plan.roles))
    own = (a,) * len(agents)
    theirs = (b,) * len(agents)
    each = [swapped(own, agent, b) for agent in agents]
    pair = (a, b)
    total = combined(of, {theirs: 1.0, own: -1.0}, pair)
    parts = tuple(combined(of, {seats: 1.0, own: -1.0}, pair) for seats in each)
    left = {theirs: 1.0, own: len(agents) - 1.0, **dict.fromkeys(each, -1.0)}
    fit = combined(of, left, pair)
    lives = referee_sentences.Lives(total, parts, fit, of.plan.roles)
    return CrossGain(
        a=a,
        b=b,
        total=total,
        agents=parts,
        fit=fit,
        sentence=referee_sentences.lives(a, b, lives),
    )


def marginal(of: Crossed, label: str, agent: int) -> CrossMarginal:
    """How much better teams are with an agent from this condition than with it from any."""
    labels = list(of.plan.players)
    each = 1.0 / len(labels)
    weights: dict[Seats, float] = {}
    for company in labels:
        team = (company,) * len(of.plan.roles)
        for other in labels:
            seats = swapped(team, agent, other)
            own = each if other == label else 0.0
            weights[seats] = weights.get(seats, 0.0) + own - each * each
    return CrossMarginal(**dict(combined(of, weights, labels)), label=label, agent=agent)
