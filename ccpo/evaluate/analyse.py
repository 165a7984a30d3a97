"""From the runs of an experiment to its statistics: stats.json, which every figure, table and
sentence is made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ccpo import manifest, schema
from ccpo.evaluate import sentences
from ccpo.evaluate import stats as st
from ccpo.evaluate.condition import GAIN, Played, condition, parts
from ccpo.manifest import TrainingManifest
from ccpo.publish.statistics import (
    Comparison,
    Condition,
    DecodedDifference,
    Parts,
    TrainingStatistics,
)

USED = ("train", "ledger", "scores", "graders")  # tables of a run


def analyse(*, experiment: Path, runs: Path, stats: Path) -> None:
    """Writes stats.json of an experiment.

    Raises:
        ValueError: a run's table is missing, or of another schema.
    """
    planned = manifest.read_training(experiment)
    played = {
        c.label: Played(c, {seed: _tables(runs / run) for seed, run in c.runs.items()})
        for c in planned.conditions
    }
    statistics(planned, played).write(stats)


def statistics(planned: TrainingManifest, played: Mapping[str, Played]) -> TrainingStatistics:
    """Statistics of an experiment from the tables of its runs, by condition."""
    conditions = {label: condition(runs) for label, runs in played.items()}
    first = next(iter(conditions.values()))
    bases = [list(c.bases.values()) for c in conditions.values()]
    return TrainingStatistics(
        experiment=planned.experiment,
        question=planned.question,
        note=planned.note,
        primary_metric=planned.primary_metric,
        token_tolerance=planned.token_tolerance,
        scope=sentences.scope(bases, first.tasks),
        conditions=conditions,
        comparisons=_comparisons(planned, played, conditions),
        gain_counted=GAIN,
    )


def inputs(experiment: Path, runs: Path) -> list[Path]:
    """The tables that the statistics of an experiment are made from."""
    ids = [run for c in manifest.read_training(experiment).conditions for run in c.runs.values()]
    return [runs / run / f"{name}.parquet" for run in ids for name in USED]


def _tables(run: Path) -> dict[str, pd.DataFrame]:
    return {name: schema.read_table(run / f"{name}.parquet", name).to_pandas() for name in USED}


def _comparisons(
    planned: TrainingManifest, played: Mapping[str, Played], conditions: Mapping[str, Condition]
) -> tuple[Comparison, ...]:
    """The declared family under the primary decoding: paired differences with Holm's adjustment,
    and whether the tokens match; beside each the same difference under every decoding that both
    conditions have, unadjusted.
    """
    under = [differences(played[a], played[b]) for a, b in planned.compare]
    primary = [
        rows[conditions[a].primary] for (a, _), rows in zip(planned.compare, under, strict=True)
    ]
    adjusted = st.holm([row.p for row in primary])
    out = []
    for (a, b), rows, row, p_holm in zip(planned.compare, under, primary, adjusted, strict=True):
        decoding = conditions[a].primary
        temperatures = {name: d.temperature for name, d in conditions[a].decodings.items()}
        declared = sentences.Declared(a, b, len(under), temperatures[decoding])
        matched, tokens = _matched(declared, conditions, planned.token_tolerance)
        out.append(
            Comparison(
                a=a,
                b=b,
                decoding=decoding,
                decodings=rows,
                p_holm=p_holm,
                detectable=st.detectable(row.sd, row.n, len(under)),
                sentence=sentences.claim(declared, row, p_holm),
                elsewhere=sentences.elsewhere(rows, decoding, temperatures),
                matched=matched,
                tokens=tokens,
            )
        )
    return tuple(out)


def differences(a: Played, b: Played) -> dict[str, DecodedDifference]:
    """By decoding: the paired difference over the seeds that both have, where its spread comes
    from, and how far it is from that under the primary decoding.
    """
    ours = a.factual()
    theirs = b.factual()
    bases = {s: f"{a.bases[s]}, {b.bases[s]}" for s in set(ours) & set(theirs)}
    shared = [d for d in a.planned.decodings if d in b.planned.decodings]
    sides = {
        d: ({s: t[d] for s, t in ours.items()}, {s: t[d] for s, t in theirs.items()})
        for d in shared
    }
    rows = {d: st.compare(_means(x), _means(y), bases) for d, (x, y) in sides.items()}
    primary = rows[a.planned.primary].by_seed
    out = {}
    for d, row in rows.items():
        apart = {s: value - primary[s] for s, value in row.by_seed.items()}
        out[d] = DecodedDifference(
            **dict(row),
            parts=_parts_of_difference(*sides[d], bases),
            apart=st.interval(st.replicates(apart, bases)),
        )
    return out


def _means(of_seeds: Mapping[int, pd.DataFrame]) -> dict[int, float]:
    return {s: float(frame.to_numpy().mean()) for s, frame in of_seeds.items()}


def _parts_of_difference(
    a: Mapping[int, pd.DataFrame], b: Mapping[int, pd.DataFrame], bases: Mapping[int, str]
) -> Parts | None:
    """Where the spread of a difference comes from, over the seeds whose tasks and samples are the
    same on both sides.
    """
    both = [
        s
        for s in sorted(set(a) & set(b))
        if a[s].shape == b[s].shape and a[s].index.equals(b[s].index)
    ]
    return parts({s: a[s] - b[s] for s in both}, bases) if both else None


def _matched(
    declared: sentences.Declared, conditions: Mapping[str, Condition], tolerance: float
) -> tuple[bool, str]:
    """Whether training generated as many tokens in both conditions, and the numbers in words."""
    x = conditions[declared.a].ledger.generated_tokens
    y = conditions[declared.b].ledger.generated_tokens
    apart = abs(x - y) / max(x, y, 1)
    verdict = (
        f"{declared.a} generated {x:,.0f} tokens in training, {declared.b} {y:,.0f}: "
        f"{100 * apart:.1f} % apart, tolerance {100 * tolerance:.0f} %"
    )
    return bool(apart <= tolerance), verdict
