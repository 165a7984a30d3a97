"""The statistics of one condition, from the tables of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ccpo.evaluate import marks, sentences
from ccpo.evaluate import stats as st
from ccpo.evaluate.marks import Marks, Played
from ccpo.manifest import PlannedCondition
from ccpo.publish.statistics import (
    FACTUAL,
    UNTRAINED,
    Accuracy,
    AgentRow,
    Clean,
    Condition,
    CurvePoint,
    Decoding,
    Gain,
    GainRow,
    Graded,
    Information,
    Interval,
    Late,
    LedgerPart,
    LedgerTotal,
    OverTasks,
    Parts,
    Row,
)

GAIN = 0.15  # the gain over the own untrained team that a seed is counted for
POINTS = 40  # of a learning curve
COUNTS = ["prompt_tokens", "generated_tokens", "trained_tokens", "evaluator_calls"]

Tables = Mapping[int, Mapping[str, pd.DataFrame]]  # by seed and name of the table


@dataclass(frozen=True)
class Runs:
    """A condition as it was planned, and what is there of its runs, by seed: tables, and marks by
    what was played.
    """

    planned: PlannedCondition
    tables: Tables
    marks: Mapping[int, Mapping[Played, Marks]]

    @property
    def bases(self) -> dict[int, str]:
        """The base model of each seed."""
        return {seed: self.planned.bases[seed] for seed in self.marks}

    @property
    def benchmark(self) -> str:
        """Of the primary metric."""
        return self.planned.evaluated[0]

    def under(self, decoding: str, intervention: str = FACTUAL) -> dict[int, np.ndarray]:
        """By seed, the marks [tasks, samples] on the benchmark of the primary metric."""
        played = Played(self.benchmark, decoding, intervention)
        return {seed: of_seed[played].values for seed, of_seed in self.marks.items()}


def marked(planned: PlannedCondition, tables: Tables) -> Runs:
    """A condition with the marks of its runs.

    Raises:
        ValueError: a seed was not played as the others were; names the run.
    """
    of_seeds = {s: marks.of_run(t["scores"], planned.runs[s]) for s, t in tables.items()}
    named = {planned.runs[seed]: of_seed for seed, of_seed in of_seeds.items()}
    marks.refuse_unequal(named, f"condition {planned.label}, run")
    return Runs(planned, tables, of_seeds)


def runs(planned: PlannedCondition, tables: Tables) -> Runs:
    """A condition with the marks of its runs under the protocol that claims are made under.

    Raises:
        ValueError: a seed was not played as the others were, or not on the benchmark of the primary
        metric; names the run.
    """
    made = marked(planned, tables)
    for decoding in planned.decodings:
        if Played(made.benchmark, decoding) not in next(iter(made.marks.values())):
            raise ValueError(
                f"condition {planned.label}: no scores on {made.benchmark}, the benchmark of the "
                f"primary metric, under {decoding}. Remedy: evaluate its runs on it"
            )
    return made


def as_repeated(repeat: Runs) -> Runs:
    """The runs of a repeat under the seeds that they repeat, so that they are paired with those."""
    pairs = repeat.planned.pairs
    bases = {pairs[seed]: base for seed, base in repeat.planned.bases.items()}
    return Runs(
        repeat.planned.model_copy(update={"bases": bases}),
        {pairs[seed]: tables for seed, tables in repeat.tables.items()},
        {pairs[seed]: of_seed for seed, of_seed in repeat.marks.items()},
    )


def condition(of: Runs) -> Condition:
    """Statistics of a condition."""
    planned = of.planned
    seeds = sorted(of.tables)
    first = of.under(planned.primary)[seeds[0]]
    return Condition(
        team=planned.team,
        credit=planned.credit,
        model=planned.model,
        policy=planned.policy,
        benchmark=of.benchmark,
        tasks=len(first),
        decodings={
            name: Decoding(temperature=t, words=sentences.decoded(t))
            for name, t in planned.decodings.items()
        },
        primary=planned.primary,
        seeds=tuple(seeds),
        bases=of.bases,
        accuracy=accuracies(of),
        nll=nll(of),
        gain=gain(of),
        parts={d: parts(of.under(d), of.bases) for d in planned.decodings},
        ledger=_ledger(of.tables),
        updates=_mean(len(t["train"].step.unique()) for t in of.tables.values()),
        curve=curve(of),
        agents=agents(of),
        role_information=_information(of.tables),
        leakage=_leaked(of.tables, "leakage"),
        leakage_by_chance=_leaked(of.tables, "leakage_by_chance"),
        clean=clean(of),
        late=Late(
            training=int(sum(max(t["train"].late, default=0) for t in of.tables.values())),
            evaluation=int(sum(t["scores"].late.sum() for t in of.tables.values())),
        ),
        graders=_graders(of.tables, planned.primary),
    )


def accuracies(of: Runs) -> dict[str, dict[str, dict[str, Accuracy]]]:
    """By benchmark, decoding and intervention, in the order in which they were played."""
    out: dict[str, dict[str, dict[str, Accuracy]]] = {}
    seeds = sorted(of.marks)
    for played in of.marks[seeds[0]]:
        values = {seed: of.marks[seed][played].values for seed in seeds}
        row = Accuracy(**dict(share(values, of.bases)), tasks=over_tasks(values))
        kinds = out.setdefault(played.benchmark, {}).setdefault(played.decoding, {})
        kinds[played.intervention] = row
    return out


def share(of_seeds: Mapping[int, np.ndarray], bases: Mapping[int, str]) -> Row:
    """Accuracy from marks [tasks, samples] by seed, its interval between 0 and 1 and never narrower
    than the items' noise makes it.
    """
    means = {seed: float(values.mean()) for seed, values in of_seeds.items()}
    noise = st.Noise(st.item_noise(of_seeds, bases))
    return Row(**dict(st.interval(st.replicates(means, bases), noise, st.SHARE)), by_seed=means)


def over_tasks(of_seeds: Mapping[int, np.ndarray]) -> OverTasks | None:
    """The interval over tasks of one run with one answer a task; several runs have the better one
    over seeds.
    """
    values = next(iter(of_seeds.values()))
    if len(of_seeds) > 1 or values.shape[1] > 1 or not np.isin(values, (0.0, 1.0)).all():
        return None
    low, high = st.wilson(int(values.sum()), len(values))
    return OverTasks(n=len(values), low=low, high=high)


def observed(
    by_seed: Mapping[int, float], bases: Mapping[int, str], within: st.Range = st.ANY
) -> Interval:
    """Interval of a quantity whose items are not known. Seeds that agree to the last digit say
    nothing of its spread: it has none then.
    """
    row = st.interval(st.replicates(by_seed, bases), within=within)
    unknown = row.ci_low is not None and row.ci_low == row.mean == row.ci_high
    return row.model_copy(update={"ci_low": None, "ci_high": None}) if unknown else row


def nll(of: Runs) -> dict[str, dict[str, Row]]:
    """Nats per token of what the team said, by decoding, trained and untrained: minus the log-probs
    under the distribution it was drawn from (greedy: at temperature 1) by the tokens. At
    temperature 1 this estimates the policy's entropy per token.
    """
    by_seed: dict[str, dict[str, dict[int, float]]] = {}
    for seed, tables in of.tables.items():
        scores = tables["scores"]
        own = scores[
            (scores.benchmark == of.benchmark) & scores.intervention.isin([FACTUAL, UNTRAINED])
        ]
        sums = own.groupby(["decoding", "intervention"], sort=False)[["logprob", "n_tokens"]].sum()
        for (decoding, kind), summed in sums.iterrows():
            value = max(0.0, -summed.logprob / max(summed.n_tokens, 1))
            by_seed.setdefault(decoding, {}).setdefault(kind, {})[seed] = float(value)
    return {
        decoding: {
            kind: Row(**dict(observed(values, of.bases)), by_seed=values)
            for kind, values in kinds.items()
        }
        for decoding, kinds in by_seed.items()
    }


def gain(of: Runs) -> Gain | None:
    """What training added to the untrained team, and what lowering the temperature alone adds to
    it; None where it was not played.

    by_decoding: trained minus untrained under each decoding.
    best: the decoding at which the untrained team is most often right (chosen by its mean, which
        flatters the untrained team).
    beyond: the trained team under the primary decoding minus the untrained one at its best: what no
        choice of temperature gives.
    Every interval holds the noise of the untrained team's answers, too.
    """
    planned = of.planned
    primary = planned.primary
    first = next(iter(of.marks.values()))
    if Played(of.benchmark, primary, UNTRAINED) not in first:
        return None
    untrained = {d: of.under(d, UNTRAINED) for d in planned.decodings}
    levels = {d: share(values, of.bases) for d, values in untrained.items()}
    best = max(levels, key=lambda d: levels[d].mean)
    common = {d: _common(untrained[d], planned.decodings[d]) for d in untrained}
    above_best = marks.minus(of.under(primary), untrained[best])
    beyond = contrast(above_best, of.bases, common[best])
    by_decoding = {}
    for d, values in untrained.items():
        added = marks.minus(of.under(d), values)
        # two draws that may each be common to all seeds
        both = float(np.hypot(common[d], common[best]))
        by_decoding[d] = GainRow(
            **dict(contrast(added, of.bases, common[d])),
            apart=contrast(marks.minus(added, above_best), of.bases, both),
        )
    described = sentences.Gained(by_decoding, beyond, best, levels[best])
    collapsed = [seed for seed, added in by_decoding[primary].by_seed.items() if added < 0]
    return Gain(
        by_decoding=by_decoding,
        best=best,
        beyond=beyond,
        seeds_counted=sum(points >= GAIN for points in beyond.by_seed.values()),
        collapsed=tuple(collapsed),
        sentence=sentences.gained(planned.label, described, planned.decodings, primary),
    )


def _common(untrained: Mapping[int, np.ndarray], temperature: float) -> float:
    """Standard deviation of what all seeds' untrained answers have in common: where several seeds
    are compared with the same draw of them, its noise averages out over draws only.
    """
    draws = {values.tobytes(): values for values in untrained.values()}
    if temperature == 0 or len(draws) == len(untrained):
        return 0.0
    variances = [st.draw_noise(values) ** 2 for values in draws.values()]
    return float(np.sqrt(np.mean(variances) / len(draws)))


def contrast(
    of_seeds: Mapping[int, np.ndarray], bases: Mapping[int, str], common: float = 0.0
) -> Row:
    """A mean difference of shares from marks [tasks, samples] by seed, its interval never narrower
    than the noise of the items and of what is common to all seeds makes it.
    """
    means = {seed: float(of_seeds[seed].mean()) for seed in sorted(of_seeds)}
    noise = st.Noise(st.item_noise(of_seeds, bases), common)
    return Row(**dict(st.interval(st.replicates(means, bases), noise, st.GAP)), by_seed=means)


def parts(of_seeds: Mapping[int, np.ndarray], bases: Mapping[int, str]) -> Parts:
    """Standard deviations of a final accuracy (or of a difference) by their source."""
    means = {seed: float(values.mean()) for seed, values in of_seeds.items()}
    return st.sources(means, bases, list(of_seeds.values()))


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(sum(listed) / len(listed))


def _leaked(tables: Tables, column: str) -> float:
    """Mean over seeds of a column over factual episodes."""
    every = [t["scores"] for t in tables.values()]
    return _mean(float(s[s.intervention == FACTUAL][column].mean()) for s in every)


def clean(of: Runs) -> dict[str, Clean]:
    """By benchmark, factual accuracy under the primary decoding on the items about which nothing is
    known to be wrong, and how many have a known defect. A benchmark of defects alone is left out.
    """
    scores = next(iter(of.tables.values()))["scores"]  # all seeds were played on the same tasks
    faulty = scores[scores.defect].groupby("benchmark").task_id.unique()
    out = {}
    for played, first in next(iter(of.marks.values())).items():
        if (played.decoding, played.intervention) != (of.planned.primary, FACTUAL):
            continue
        defect = np.isin(first.tasks, faulty.get(played.benchmark, []))
        if not defect.all():
            sound = {seed: of_seed[played].values[~defect] for seed, of_seed in of.marks.items()}
            row = share(sound, of.bases)
            out[played.benchmark] = Clean(**dict(row), defects=int(defect.sum()))
    return out


def _graders(tables: Tables, primary: str) -> dict[str, Graded]:
    """Accuracy of the same factual answers under our verifier and under the papers' graders, by
    benchmark: means over seeds.
    """
    frame = pd.concat(t["graders"].assign(seed=s) for s, t in tables.items())
    frame = frame[frame.decoding == primary]
    kinds = ["accuracy", "c3", "ccpo"]
    by_seed = frame.groupby(["benchmark", "seed"])[kinds].mean()
    return {
        str(name): Graded(**{kind: float(rows[kind].mean()) for kind in kinds})
        for name, rows in by_seed.groupby("benchmark")
    }


def _ledger(tables: Tables) -> LedgerTotal:
    """Counts of training: mean over seeds, in all and by (agent, purpose)."""
    frame = pd.concat(t["ledger"].assign(seed=s) for s, t in tables.items())
    total = frame.groupby("seed")[COUNTS].sum().mean() if len(frame) else pd.Series(0.0, COUNTS)
    of_part = frame.groupby(["agent", "purpose"])[COUNTS].sum() / len(tables)
    rows = [
        LedgerPart(agent=int(agent), purpose=str(purpose), **{c: float(counted[c]) for c in COUNTS})
        for (agent, purpose), counted in of_part.iterrows()
    ]
    return LedgerTotal(**{c: float(total[c]) for c in COUNTS}, parts=tuple(rows))


def curve(of: Runs) -> tuple[CurvePoint, ...]:
    """Team reward by update, averaged over windows of updates, with t-intervals over the replicates
    that got that far together.
    """
    last = {}
    for seed, tables in of.tables.items():
        train = tables["train"]
        own = train[train.agent == train.agent.max()].sort_values("step")
        last[seed] = own[["reward", "generated_tokens"]].to_numpy(float)
    steps = min(len(rows) for rows in last.values())
    width = max(1, steps // POINTS)
    out = []
    for start in range(0, steps - width + 1, width):
        windows = {seed: rows[start : start + width] for seed, rows in last.items()}
        rewards = {seed: float(window[:, 0].mean()) for seed, window in windows.items()}
        out.append(
            CurvePoint(
                step=start + width,
                tokens=_mean(window[:, 1].max() for window in windows.values()),
                **dict(observed(rewards, of.bases, st.SHARE)),
            )
        )
    return tuple(out)


def agents(of: Runs) -> tuple[AgentRow, ...]:
    """Reward, credit and leakage of each agent's messages: first and last fifth of the updates,
    intervals over replicates.
    """
    quantities = ["reward", "credit", "leakage"]
    out = []
    for agent in sorted(next(iter(of.tables.values()))["train"].agent.unique()):
        for part in ("first", "last"):
            means = {}
            for seed, tables in of.tables.items():
                own = tables["train"][tables["train"].agent == agent].sort_values("step")
                fifth = max(1, len(own) // 5)
                rows = own.head(fifth) if part == "first" else own.tail(fifth)
                means[seed] = rows[quantities].to_numpy(float).mean(axis=0)
            for i, quantity in enumerate(quantities):
                of_seeds = {seed: float(mean[i]) for seed, mean in means.items()}
                within = st.ANY if quantity == "credit" else st.SHARE
                interval = observed(of_seeds, of.bases, within)
                out.append(
                    AgentRow(agent=int(agent), part=part, quantity=quantity, **dict(interval))
                )
    return tuple(out)


def _information(tables: Tables) -> tuple[Information, ...]:
    """Role information by update and agent, over the seeds."""
    frame = pd.concat(t["train"] for t in tables.values())
    grouped = (
        frame.groupby(["agent", "step"])
        .role_information.agg(["mean", "max", "count"])
        .reset_index()
    )
    full = grouped[grouped["count"] == len(tables)]
    return tuple(
        Information(agent=int(a), step=int(s), mean=float(m), max=float(x))
        for a, s, m, x in zip(full["agent"], full["step"], full["mean"], full["max"], strict=True)
    )
