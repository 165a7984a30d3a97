"""The statistics of one condition, from the tables of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from ccpo.evaluate import sentences
from ccpo.evaluate import stats as st
from ccpo.manifest import PlannedCondition
from ccpo.publish.statistics import (
    FACTUAL,
    UNTRAINED,
    Accuracy,
    AgentRow,
    Condition,
    CurvePoint,
    Decoding,
    Gain,
    GainRow,
    Graded,
    Information,
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
# by decoding: correctness, a row for each task, a column for each sample
Answers = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Played:
    """A condition as it was planned, and the tables of its runs by seed."""

    planned: PlannedCondition
    tables: Tables

    @property
    def bases(self) -> dict[int, str]:
        """The base model of each seed."""
        return {seed: self.planned.bases[seed] for seed in self.tables}

    @property
    def benchmark(self) -> str:
        """Of the primary metric."""
        return self.planned.evaluated[0]

    def factual(self) -> dict[int, Answers]:
        """By seed, the answers on the benchmark of the primary metric."""
        return {s: answers(t["scores"], self.benchmark) for s, t in self.tables.items()}


def answers(scores: pd.DataFrame, benchmark: str, intervention: str = FACTUAL) -> Answers:
    """Correctness of the answers of one run."""
    rows = scores[(scores.benchmark == benchmark) & (scores.intervention == intervention)]
    return {
        str(name): part.pivot(index="task_id", columns="sample", values="accuracy")
        for name, part in rows.groupby("decoding", sort=False)
    }


def condition(played: Played) -> Condition:
    """Statistics of a condition.

    Raises:
        ValueError: the benchmark of the primary metric was not evaluated.
    """
    planned = played.planned
    accuracy = _accuracy(played)
    if played.benchmark not in accuracy:
        raise ValueError(
            f"condition {planned.label}: no scores on {played.benchmark}, the benchmark of the "
            "primary metric. Remedy: evaluate its runs on it"
        )
    seeds = sorted(played.tables)
    evaluated = played.tables[seeds[0]]["scores"]
    own = evaluated[evaluated.benchmark == played.benchmark]
    factual = played.factual()
    return Condition(
        team=planned.team,
        credit=planned.credit,
        model=planned.model,
        policy=planned.policy,
        benchmark=played.benchmark,
        tasks=int(own.task_id.nunique()),
        decodings={
            name: Decoding(temperature=t, words=sentences.decoded(t))
            for name, t in planned.decodings.items()
        },
        primary=planned.primary,
        seeds=tuple(seeds),
        bases=played.bases,
        accuracy=accuracy,
        nll=nll(played),
        gain=gain(planned, accuracy[played.benchmark], played.bases),
        parts={
            d: parts({s: of_seed[d] for s, of_seed in factual.items()}, played.bases)
            for d in planned.decodings
        },
        ledger=_ledger(played.tables),
        updates=_mean(len(t["train"].step.unique()) for t in played.tables.values()),
        curve=curve(played),
        agents=agents(played),
        role_information=_information(played.tables),
        leakage=_mean(_leakage(t["scores"]) for t in played.tables.values()),
        graders=_graders(played.tables, planned.primary),
    )


def _accuracy(played: Played) -> dict[str, dict[str, dict[str, Accuracy]]]:
    """By benchmark, decoding and intervention, in the order in which the first seed was played."""
    out: dict[str, dict[str, dict[str, Accuracy]]] = {}
    seeds = sorted(played.tables)
    evaluated = played.tables[seeds[0]]["scores"][["benchmark", "intervention"]]
    for name, kind in evaluated.drop_duplicates().itertuples(index=False):
        of_seeds = {s: answers(played.tables[s]["scores"], name, kind) for s in seeds}
        for decoding in of_seeds[seeds[0]]:
            means = {s: float(of_seeds[s][decoding].to_numpy().mean()) for s in seeds}
            out.setdefault(name, {}).setdefault(decoding, {})[kind] = Accuracy(
                **dict(row(means, played.bases)),
                tasks=over_tasks([of_seeds[s][decoding] for s in seeds]),
            )
    return out


def over_tasks(of_seeds: list[pd.DataFrame]) -> OverTasks | None:
    """The interval over tasks of one run with one answer a task; several runs have the better one
    over seeds.
    """
    first = of_seeds[0]
    if len(of_seeds) > 1 or first.shape[1] > 1 or not first.isin([0.0, 1.0]).all(axis=None):
        return None
    low, high = st.wilson(int(first.to_numpy().sum()), len(first))
    return OverTasks(n=len(first), low=low, high=high)


def row(by_seed: Mapping[int, float], bases: Mapping[int, str]) -> Row:
    """Mean over replicates with its interval, and the value of every seed."""
    return Row(**dict(st.interval(st.replicates(by_seed, bases))), by_seed=dict(by_seed))


def nll(played: Played) -> dict[str, dict[str, Row]]:
    """Nats per token of what the team said, by decoding, trained and untrained: minus the log-probs
    under the distribution it was drawn from (greedy: at temperature 1) by the tokens. At
    temperature 1 this estimates the policy's entropy per token.
    """
    by_seed: dict[str, dict[str, dict[int, float]]] = {}
    for seed, tables in played.tables.items():
        scores = tables["scores"]
        own = scores[
            (scores.benchmark == played.benchmark) & scores.intervention.isin([FACTUAL, UNTRAINED])
        ]
        sums = own.groupby(["decoding", "intervention"], sort=False)[["logprob", "n_tokens"]].sum()
        for (decoding, kind), summed in sums.iterrows():
            value = max(0.0, -summed.logprob / max(summed.n_tokens, 1))
            by_seed.setdefault(decoding, {}).setdefault(kind, {})[seed] = float(value)
    return {
        decoding: {kind: row(values, played.bases) for kind, values in kinds.items()}
        for decoding, kinds in by_seed.items()
    }


def gain(
    planned: PlannedCondition,
    accuracy: Mapping[str, Mapping[str, Accuracy]],
    bases: Mapping[int, str],
) -> Gain | None:
    """What training added to the untrained team, and what lowering the temperature alone adds to
    it; None where it was not played.

    accuracy: on the primary benchmark, by decoding and intervention.
    by_decoding: trained minus untrained under each decoding.
    best: the decoding at which the untrained team is most often right (chosen by its mean, which
        flatters the untrained team).
    beyond: the trained team under the primary decoding minus the untrained one at its best: what no
        choice of temperature gives.
    """
    if UNTRAINED not in accuracy[planned.primary]:
        return None

    def minus(a: Row, b: Row) -> Row:
        return row({s: a.by_seed[s] - b.by_seed[s] for s in a.by_seed}, bases)

    best = max(accuracy, key=lambda name: accuracy[name][UNTRAINED].mean)
    beyond = minus(accuracy[planned.primary][FACTUAL], accuracy[best][UNTRAINED])
    gains = {name: minus(kinds[FACTUAL], kinds[UNTRAINED]) for name, kinds in accuracy.items()}
    by_decoding = {
        name: GainRow(**dict(added), apart=minus(added, beyond)) for name, added in gains.items()
    }
    untrained = accuracy[best][UNTRAINED].mean
    described = sentences.Gained(by_decoding, beyond, best, untrained)
    return Gain(
        by_decoding=by_decoding,
        best=best,
        beyond=beyond,
        seeds_counted=sum(points >= GAIN for points in beyond.by_seed.values()),
        sentence=sentences.gained(planned.label, described, planned.decodings, planned.primary),
    )


def parts(of_seeds: Mapping[int, pd.DataFrame], bases: Mapping[int, str]) -> Parts:
    """Standard deviations of a final accuracy (or of a difference) by their source."""
    means = {s: float(frame.to_numpy().mean()) for s, frame in of_seeds.items()}
    return st.sources(means, bases, [frame.to_numpy() for frame in of_seeds.values()])


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(sum(listed) / len(listed))


def _leakage(scores: pd.DataFrame) -> float:
    return float(scores[scores.intervention == FACTUAL].leakage.mean())


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


def curve(played: Played) -> tuple[CurvePoint, ...]:
    """Team reward by update, averaged over windows of updates, with t-intervals over the replicates
    that got that far together.
    """
    last = {
        s: t["train"][t["train"].agent == t["train"].agent.max()].sort_values("step")
        for s, t in played.tables.items()
    }
    steps = min(len(rows) for rows in last.values())
    width = max(1, steps // POINTS)
    out = []
    for start in range(0, steps - width + 1, width):
        windows = {s: rows.iloc[start : start + width] for s, rows in last.items()}
        rewards = {s: float(window.reward.mean()) for s, window in windows.items()}
        out.append(
            CurvePoint(
                step=start + width,
                tokens=_mean(window.generated_tokens.max() for window in windows.values()),
                **dict(st.interval(st.replicates(rewards, played.bases))),
            )
        )
    return tuple(out)


def agents(played: Played) -> tuple[AgentRow, ...]:
    """Reward, credit and leakage of each agent's messages: first and last fifth of the updates,
    intervals over replicates.
    """
    quantities = ["reward", "credit", "leakage"]
    out = []
    for agent in sorted(next(iter(played.tables.values()))["train"].agent.unique()):
        for part in ("first", "last"):
            means = {}
            for seed, tables in played.tables.items():
                own = tables["train"][tables["train"].agent == agent].sort_values("step")
                fifth = max(1, len(own) // 5)
                rows = own.head(fifth) if part == "first" else own.tail(fifth)
                means[seed] = rows[quantities].mean()
            for quantity in quantities:
                of_seeds = {s: float(mean[quantity]) for s, mean in means.items()}
                interval = st.interval(st.replicates(of_seeds, played.bases))
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
