"""From the runs of an experiment to its statistics: stats.json, which every figure, table and
sentence is made from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from ccpo import lineage, manifest, schema
from ccpo.evaluate import budget, cross_gains, marks, sentences, specifications
from ccpo.evaluate import stats as st
from ccpo.evaluate.alarms import Thresholds
from ccpo.evaluate.condition import (
    GAIN,
    Runs,
    accuracies,
    as_repeated,
    condition,
    contrast,
    marked,
    parts,
    runs,
)
from ccpo.evaluate.equal_tokens import equal_tokens
from ccpo.evaluate.marks import Played
from ccpo.evaluate.measured import measured
from ccpo.evaluate.panel import panel
from ccpo.evaluate.probing import over_seeds
from ccpo.manifest import PlannedProtocol, TrainingManifest
from ccpo.publish.statistics import (
    Comparison,
    Condition,
    DecodedDifference,
    Decoding,
    OtherProtocol,
    Repeat,
    TrainingStatistics,
)

TRAINED = ("train", "ledger")  # tables of a run
EVALUATED = ("scores", "graders")  # and of its evaluation
Tables = Mapping[str, Mapping[int, Mapping[str, pd.DataFrame]]]  # by condition, seed, name


def analyse(*, experiment: Path, runs: Path, stats: Path) -> None:
    """Writes stats.json of an experiment. Runs that are not there are left out and named.

    Raises:
        ValueError: no run is there, a table is of another schema, or runs were not evaluated alike.
    """
    begun = lineage.begin([experiment, *inputs(experiment, runs)])
    numbers(experiment, runs).write(stats)
    lineage.write_passport(stats, begun)


def numbers(experiment: Path, runs: Path) -> TrainingStatistics:
    """Statistics of an experiment from its runs' folders. ValueError as `analyse`."""
    planned = manifest.read_training(experiment)
    tables: dict[str, dict[int, dict[str, pd.DataFrame]]] = {}
    for c in planned.conditions:
        tables[c.label] = {
            seed: _tables(runs / run, planned.primary)
            for seed, run in c.runs.items()
            if not missing(runs / run, planned.primary)
        }
    there = runs_there(planned, tables)
    pairs = comparable(planned, there)
    update = {
        "others": tuple(other(protocol, planned, runs) for protocol in planned.protocols[1:]),
        "probes": over_seeds.of_experiment(planned, runs),
        "cross": cross_gains.crossed(planned, experiment.parent),
        "budgets": budget.budgets(there, pairs),
        "curves": specifications.curves(planned, there, runs, pairs),
    }
    return statistics(planned, there).model_copy(update=update)


def runs_there(planned: TrainingManifest, tables: Tables) -> dict[str, Runs]:
    """What is there of each condition, from the tables of its runs, by condition, seed and name.

    Raises:
        ValueError: there is no run, or runs were not evaluated alike.
    """
    there = {c.label: runs(c, tables[c.label]) for c in planned.conditions if tables[c.label]}
    if not there:
        raise ValueError(
            f"experiment {planned.experiment}: none of its runs is there. Remedy: run snakemake"
        )
    return there


def comparable(planned: TrainingManifest, there: Mapping[str, Runs]) -> list[tuple[str, str]]:
    """The declared pairs of which a seed of both is there."""
    return [
        (a, b)
        for a, b in planned.compare
        if a in there and b in there and set(there[a].tables) & set(there[b].tables)
    ]


def statistics(planned: TrainingManifest, there: Mapping[str, Runs]) -> TrainingStatistics:
    """Statistics of an experiment from the runs that are there."""
    conditions = {
        label: _with_panel(of, planned.effect).model_copy(update={"metrics": measured(of)})
        for label, of in there.items()
    }
    first = next(iter(conditions.values()))
    bases = [list(c.bases.values()) for c in conditions.values()]
    pairs = comparable(planned, there)
    return TrainingStatistics(
        experiment=planned.experiment,
        question=planned.question,
        note=planned.note,
        primary_metric=planned.primary_metric,
        token_tolerance=planned.token_tolerance,
        effect=planned.effect,
        scope=sentences.scope(bases, first.tasks),
        left_out=tuple(_left_out(planned, there)),
        conditions=conditions,
        comparisons=_comparisons(planned, pairs, there, conditions),
        repeats=tuple(_repeats(planned, there)),
        equal_tokens=equal_tokens(there, planned.token_tolerance),
        gain_counted=GAIN,
    )


def _with_panel(of: Runs, effect: float) -> Condition:
    """The statistics of a condition with the panel of its agents; a leak stands in the sentence of
    its gain.
    """
    made = condition(of)
    shown = panel(of, Thresholds(effect))
    gain = made.gain
    if gain and shown:
        sentence = sentences.gained_by_leak(gain.sentence, shown.alarms)
        gain = gain.model_copy(update={"sentence": sentence})
    return made.model_copy(update={"panel": shown, "gain": gain})


def _repeats(planned: TrainingManifest, there: Mapping[str, Runs]) -> Iterator[Repeat]:
    """Each repeat against what it repeats, where a pair of seeds is there."""
    for of in there.values():
        repeated = there.get(of.planned.repeats)
        if repeated is None:
            continue
        own = as_repeated(of)
        if not set(own.marks) & set(repeated.marks):
            continue
        rows = differences(own, repeated, planned.effect)
        primary = of.planned.primary
        names = (of.planned.label, repeated.planned.label)
        temperature = of.planned.decodings[primary]
        yield Repeat(
            a=names[0],
            b=names[1],
            decoding=primary,
            decodings=rows,
            sentence=sentences.repeated(*names, rows[primary], temperature),
        )


def other(protocol: PlannedProtocol, planned: TrainingManifest, folder: Path) -> OtherProtocol:
    """Accuracies under a protocol that no claim is made under, of the runs that are there."""
    conditions = {}
    metrics = {}
    for c in planned.conditions:
        paths = {s: protocol.folder(folder / run) / "scores.parquet" for s, run in c.runs.items()}
        scores = {
            seed: {"scores": schema.read_table(path, "scores").to_pandas()}
            for seed, path in paths.items()
            if path.is_file()
        }
        if scores:
            own = c.model_copy(update={"decodings": protocol.decodings})
            there = marked(own, scores)
            conditions[c.label] = accuracies(there)
            metrics[c.label] = measured(there)
    words = {
        name: Decoding(temperature=t, words=protocol.words.get(name, sentences.decoded(t)))
        for name, t in protocol.decodings.items()
    }
    return OtherProtocol(
        name=protocol.name,
        id=protocol.id,
        decodings=words,
        conditions=conditions,
        metrics=metrics,
    )


def files(run: Path, protocol: PlannedProtocol) -> dict[str, Path]:
    """Where the tables lie that statistics are made from, by name."""
    evaluation = protocol.folder(run)
    return {
        **{name: run / f"{name}.parquet" for name in TRAINED},
        **{name: evaluation / f"{name}.parquet" for name in EVALUATED},
    }


def missing(run: Path, protocol: PlannedProtocol) -> list[Path]:
    """Tables that a run lacks."""
    return [path for path in files(run, protocol).values() if not path.is_file()]


def inputs(experiment: Path, runs: Path) -> list[Path]:
    """The tables that the statistics of an experiment are made from."""
    planned = manifest.read_training(experiment)
    folders = [runs / run for c in planned.conditions for run in c.runs.values()]
    main = [
        path
        for folder in folders
        if not missing(folder, planned.primary)
        for path in files(folder, planned.primary).values()
    ]
    others = [
        path
        for protocol in planned.protocols[1:]
        for folder in folders
        for path in specifications.paths_of(protocol.folder(folder)).values()
    ]
    seconds = [folder / "seconds.parquet" for folder in folders]
    probed = over_seeds.files(planned, runs).values()
    crossed = cross_gains.tables(planned, experiment.parent)
    return [*main, *(path for path in (*others, *seconds, *crossed) if path.is_file()), *probed]


def _tables(run: Path, protocol: PlannedProtocol) -> dict[str, pd.DataFrame]:
    return {
        name: schema.read_table(path, name).to_pandas()
        for name, path in files(run, protocol).items()
    }


def _left_out(planned: TrainingManifest, there: Mapping[str, Runs]) -> list[str]:
    """What is missing, and what can therefore not be said."""
    out = []
    for c in planned.conditions:
        seeds = there[c.label].tables if c.label in there else {}
        out += [
            f"condition {c.label}, seed {seed}: run {run} is not there"
            for seed, run in c.runs.items()
            if seed not in seeds
        ]
    for a, b in planned.compare:
        ours = there[a].tables if a in there else {}
        theirs = there[b].tables if b in there else {}
        if not set(ours) & set(theirs):
            out.append(f"{a} against {b}: no seed of both is there")
    return out


def _comparisons(
    planned: TrainingManifest,
    pairs: list[tuple[str, str]],
    there: Mapping[str, Runs],
    conditions: Mapping[str, Condition],
) -> tuple[Comparison, ...]:
    """The declared family under the primary decoding: paired differences with Holm's adjustment
    (over all that were declared; of differences and of equivalence each), and whether the tokens
    match; beside each the same difference under every decoding that both conditions have,
    unadjusted.
    """
    under = [differences(there[a], there[b], planned.effect) for a, b in pairs]
    primary = [rows[conditions[a].primary] for (a, _), rows in zip(pairs, under, strict=True)]
    undone = [1.0] * (len(planned.compare) - len(pairs))
    adjusted = st.holm([*(row.p for row in primary), *undone])
    equivalent = st.holm([*(row.p_equivalent for row in primary), *undone])
    out = []
    for i, (a, b) in enumerate(pairs):
        declared = sentences.Declared(
            a,
            b,
            len(planned.compare),
            planned.effect,
            conditions[a].decodings[conditions[a].primary].temperature,
        )
        tested = sentences.Tested(primary[i], adjusted[i], equivalent[i])
        out.append(_comparison(declared, tested, under[i], conditions, planned.token_tolerance))
    return tuple(out)


def _comparison(
    declared: sentences.Declared,
    tested: sentences.Tested,
    rows: dict[str, DecodedDifference],
    conditions: Mapping[str, Condition],
    tolerance: float,
) -> Comparison:
    a = conditions[declared.a]
    b = conditions[declared.b]
    row = tested.row
    noise = st.Noise(row.item)
    detectable = st.detectable(row.sd, row.n, declared.family, noise)
    needed = st.seeds_needed(declared.effect, row.sd, declared.family, noise)
    only = {
        declared.a: sorted(set(a.seeds) - set(b.seeds)),
        declared.b: sorted(set(b.seeds) - set(a.seeds)),
    }
    unpaired = [f"{name} alone has {sentences.seeds(s)}" for name, s in only.items() if s]
    matched, tokens = _matched(declared, conditions, tolerance)
    reserves = [*unpaired, *([] if matched else [f"not matched in tokens: {tokens}"])]
    for name in (declared.a, declared.b):
        shown = conditions[name].panel
        reserves += sentences.leaking(name, shown.alarms if shown else ())
    temperatures = {name: d.temperature for name, d in a.decodings.items()}
    return Comparison(
        a=declared.a,
        b=declared.b,
        decoding=a.primary,
        decodings=rows,
        p_holm=tested.p_holm,
        p_equivalent_holm=tested.p_equivalent_holm,
        verdict=sentences.verdict(tested),
        detectable=detectable,
        needed=needed,
        unpaired=tuple(unpaired),
        sentence=sentences.claim(declared, tested, sentences.Means(detectable, needed), reserves),
        elsewhere=sentences.elsewhere(rows, a.primary, temperatures),
        matched=matched,
        tokens=tokens,
    )


def differences(a: Runs, b: Runs, effect: float) -> dict[str, DecodedDifference]:
    """By decoding: the paired difference over the seeds that both have, where its spread comes
    from, and how far it is from that under the primary decoding.

    Raises:
        ValueError: the two were not played on the same tasks.
    """
    shared = [d for d in a.planned.decodings if d in b.planned.decodings]
    compared = [Played(a.benchmark, decoding) for decoding in shared]
    of_both = {}
    for of in (a, b):
        first = next(iter(of.marks.values()))  # all seeds were played alike
        of_both[of.planned.label] = {
            played: first[played] for played in compared if played in first
        }
    pair = f"{a.planned.label} and {b.planned.label}"
    # a single agent may have drawn more samples than a team
    marks.refuse_unequal(of_both, f"comparison of {pair}, condition", samples=False)
    by_seed = {d: marks.minus(a.under(d), b.under(d)) for d in shared}
    seeds = by_seed[a.planned.primary]
    bases = {s: f"{a.bases[s]}, {b.bases[s]}" for s in seeds}
    out = {}
    for d, values in by_seed.items():
        means = {seed: float(of_seed.mean()) for seed, of_seed in values.items()}
        noise = st.Noise(st.item_noise(values, bases))
        apart = contrast(marks.minus(values, by_seed[a.planned.primary]), bases)
        out[d] = DecodedDifference(
            **dict(st.compare(means, bases, noise, effect)),
            parts=parts(values, bases),
            apart=apart,
        )
    return out


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
