"""The report of an experiment: one self-contained page, every sentence with a number generated
from the statistics.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ccpo import lineage, manifest, schema
from ccpo.manifest import OracleManifest, PlannedCondition, TrainingManifest
from ccpo.publish import (
    figure,
    messages,
    metrics,
    oracle,
    origin,
    page,
    panel,
    probes,
    referee,
    statistics,
    tables,
)
from ccpo.publish.forecast import Forecast
from ccpo.publish.forecast import read as read_forecast
from ccpo.publish.statistics import (
    Accuracy,
    Condition,
    Decoding,
    OracleStatistics,
    Parts,
    TrainingStatistics,
)
from ccpo.source import Source

ZERO = 1e-9
SPENT = ("ledger", "seconds")  # tables of what a run took
SOURCES = {
    "base": "base model",
    "seed": "training seed",
    "draw": "drawing of answers",
    "task": "choice of tasks",
    "total": "between seeds, all",
}


@dataclass(frozen=True)
class Files:
    """What the page of an experiment is made from. `runs`: none of an oracle experiment; `plan`: a
    forecast to compare with; `published`: what the paper printed beside it, of one that follows a
    paper.
    """

    stats: Path
    experiment: Path
    figures: list[Path]
    table: Path
    runs: Path | None = None
    plan: Path | None = None
    published: Path | None = None


def write(files: Files, out: Path) -> None:
    """Writes the page of an experiment or of an oracle experiment.

    Raises:
        ValueError: anything it shows is missing.
    """
    begun = lineage.begin(inputs(files, manifest.read(files.experiment)))
    schema.write_text(out, drawn(files, begun.source))
    lineage.write_passport(out, begun)


def drawn(files: Files, drawn_by: Source) -> str:
    """The page, which says that it was drawn by this code. ValueError as `write`."""
    planned = manifest.read(files.experiment)
    numbers = statistics.read(files.stats)
    parts = [
        f"<h1>{html.escape(numbers.question)}</h1>"
        f"<p>Experiment <code>{html.escape(numbers.experiment)}</code>.</p>"
    ]
    if numbers.note:
        parts.append(f"<p class='note'>{html.escape(numbers.note)}</p>")
    if isinstance(numbers, OracleStatistics):
        parts += oracle.parts(numbers, "".join(_figure(path) for path in files.figures))
    elif isinstance(planned, TrainingManifest):
        parts += _of_runs(numbers, planned, files)
    else:
        raise ValueError(
            f"report: {files.stats} is of an experiment that trains, {files.experiment} of an "
            "oracle experiment. Remedy: give both of one experiment"
        )
    made_from = origin.MadeFrom(planned, files.experiment, files.runs)
    shown = origin.as_html(made_from, inputs(files, planned), drawn_by)
    parts.append(f"<h2>Where it comes from</h2>{shown}")
    return page.whole(numbers.question, "".join(parts))


def inputs(files: Files, planned: TrainingManifest | OracleManifest) -> list[Path]:
    """What the page of an experiment shows, as far as it is there."""
    named = [files.stats, files.experiment, files.table, *files.figures]
    named += [path for path in (files.plan, files.published) if path]
    if files.runs is None or isinstance(planned, OracleManifest):
        return named
    folders = [files.runs / run for c in planned.conditions for run in c.runs.values()]
    named += [folder / lineage.PROVENANCE for folder in folders]
    if files.plan:
        named += [folder / f"{table}.parquet" for folder in folders for table in SPENT]
    return [path for path in [*named, *messages.tables(planned, files.runs)] if path.is_file()]


def _of_runs(numbers: TrainingStatistics, planned: TrainingManifest, files: Files) -> list[str]:
    if files.runs is None:
        raise ValueError(
            "report: an experiment's page shows messages of its runs; --runs says where they are"
        )
    parts = [
        f"<p>Primary metric: {numbers.primary_metric}.</p>",
        "<h2>What the numbers allow to say</h2>",
        page.listed(html.escape(sentence) for sentence in sentences(numbers, planned)),
        f"<h2>Who contributes</h2>{panel.section(numbers)}",
        f"<h2>Conditions</h2>{page.wide(tables.as_html(files.table))}",
        f"<h2>Declared comparisons</h2>{page.wide(comparisons(numbers))}",
        f"<h2>Where the spread comes from</h2>{page.wide(sources(numbers))}",
        "<h2>Against a single agent at equal tokens</h2>",
        page.wide(metrics.against_single(numbers)),
        f"<h2>Several answers to a task</h2>{page.wide(metrics.by_samples(numbers))}",
        f"<h2>Benchmarks and interventions</h2>{page.wide(interventions(numbers))}",
        f"<h2>The same answers under the papers' graders</h2>{page.wide(graders(numbers))}",
        *_probed(numbers),
        *referee.parts(numbers),
        *_beside_paper(planned, files),
        "<h2>Figures</h2>" + "".join(_figure(path) for path in files.figures),
        "<h2>Messages in full</h2>" + messages.example(planned, files.runs),
    ]
    if files.plan is not None:
        compared = forecast(read_forecast(files.plan), planned, files.runs)
        parts.append(f"<h2>Forecast and actual</h2>{page.wide(compared)}")
    return parts


def _probed(numbers: TrainingStatistics) -> list[str]:
    if numbers.probes is None:
        return []
    return [f"<h2>Credit measured on the runs</h2>{probes.part(numbers.probes)}"]


def _beside_paper(planned: TrainingManifest, files: Files) -> Iterator[str]:
    """Links to what the paper printed beside what was measured, and to the deviations from it."""
    if planned.paper is None or files.published is None:
        return
    paper = html.escape(f"{planned.paper.name}, {planned.paper.version}")
    folder = os.path.relpath(files.published.parent, files.stats.parent)
    yield (
        f"<p>It follows {paper}: <a href='{folder}/published.csv'>published values beside these"
        f"</a>, <a href='{folder}/deviations.csv'>in which settings it is not as published</a>."
        "</p>"
    )


def sentences(numbers: TrainingStatistics, planned: TrainingManifest) -> Iterator[str]:
    """What is missing, claims of the declared comparisons, gains over the untrained teams, and
    degenerate credit, from the numbers.
    """
    for text in numbers.left_out:
        yield f"These statistics are partial: {text}."
    for row in numbers.comparisons:
        yield f"{row.sentence} {row.elsewhere}".strip()
    for repeat in numbers.repeats:
        yield repeat.sentence
    if numbers.equal_tokens:
        yield from numbers.equal_tokens.sentences
    yield numbers.scope
    for label, condition in numbers.conditions.items():
        yield from _of_condition(condition, planned.condition(label))


def _of_condition(condition: Condition, planned: PlannedCondition) -> Iterator[str]:
    label = planned.label
    if planned.preset:
        yield (
            f"Condition {label} follows {planned.preset} of config/presets.yaml, except for what "
            "the experiment sets otherwise."
        )
    if condition.gain and len(condition.seeds) > 1 and condition.updates:
        yield condition.gain.sentence
    measured = max((row.max for row in condition.role_information), default=None)
    if planned.degenerate:
        left = (
            "nothing yet."
            if measured is None
            else f"the shared reward left at most {measured:.1g} of its advantage's variance "
            "unexplained."
        )
        yield (
            f"Credit {condition.credit} in condition {label} is degenerate by algebra: "
            f"{planned.degenerate}. Measured: {left}"
        )
    # without a baseline of the group, the outcome's mean teaches too, which role information takes
    # out
    silent = measured is not None and measured < ZERO and planned.compares == "group"
    if silent and not planned.degenerate and condition.credit != "shared":
        yield (
            f"Credit {condition.credit} in condition {label} taught nothing that the shared reward "
            "does not teach: role information was 0 in every update."
        )


def sources(numbers: TrainingStatistics) -> str:
    """Where the spread of final accuracies and of their differences comes from: standard deviations
    in points.
    """
    rows = []
    for label, condition in numbers.conditions.items():
        rows += [
            _source_row(label, condition.decodings[decoding].words, parts)
            for decoding, parts in condition.parts.items()
        ]
    for comparison in numbers.comparisons:
        decodings = numbers.conditions[comparison.a].decodings
        rows += [
            _source_row(f"{comparison.a} − {comparison.b}", decodings[decoding].words, row.parts)
            for decoding, row in comparison.decodings.items()
            if row.parts
        ]
    return (
        "<p>Standard deviations, in points. A dash: this experiment cannot tell (base models and "
        "seeds are told apart only where a base model has several seeds, drawing only where a task "
        "has several answers).</p>"
        + page.folded(
            "By condition, comparison and temperature",
            page.table(["", "answering", *SOURCES.values()], rows),
        )
    )


def _source_row(label: str, words: str, parts: Parts) -> list[str]:
    values = [getattr(parts, key) for key in SOURCES]
    return [html.escape(label), words, *map(tables.percent, values)]


def comparisons(numbers: TrainingStatistics) -> str:
    """The declared family as a table."""
    if not numbers.comparisons:
        return "<p>None was declared.</p>"
    names = [
        "a − b",
        "n",
        "difference, points [95 % interval]",
        "verdict",
        "p",
        "Holm p",
        "Holm p of equivalence",
        "sign-flip p",
        "smallest detectable, points",
        "tokens match",
    ]
    rows = [
        [
            html.escape(f"{c.a} − {c.b}"),
            f"{c.main.n} {c.main.unit}s",
            tables.percent(c.main.mean, True) + tables.band(c.main.ci_low, c.main.ci_high, True),
            c.verdict,
            _p(c.main.p),
            _p(c.p_holm),
            _p(c.p_equivalent_holm),
            _p(c.main.p_sign_flip, c.main.p_sign_flip_error),
            tables.percent(c.detectable),
            "yes" if c.matched else "no",
        ]
        for c in numbers.comparisons
    ]
    effect = f"Declared before: differences below {100 * numbers.effect:g} points do not matter."
    return f"<p>{effect}</p>{page.table(names, rows)}"


def _p(value: float | None, error: float | None = None) -> str:
    """A p with its error, where it was drawn."""
    if value is None:
        return "–"
    return f"{value:.3g}" + (f" ± {error:.1g}" if error else "")


PLAYED = ("condition", "benchmark", "answering", "intervention", "accuracy, %")


def interventions(numbers: TrainingStatistics) -> str:
    """Accuracy by condition, benchmark, decoding and intervention; of a single run with the
    interval over its tasks.
    """
    rows = [
        [html.escape(label), *cells]
        for label, condition in numbers.conditions.items()
        for cells in _accuracies(condition.accuracy, condition.decodings)
    ]
    shown = page.table(PLAYED, rows)
    for other in numbers.others:
        rows = [
            [html.escape(label), *cells]
            for label, accuracy in other.conditions.items()
            for cells in _accuracies(accuracy, other.decodings)
        ]
        shown += f"<p>Under protocol {html.escape(other.name)}:</p>{page.table(PLAYED, rows)}"
    return shown


def _accuracies(
    accuracy: Mapping[str, Mapping[str, Mapping[str, Accuracy]]], decodings: Mapping[str, Decoding]
) -> Iterator[list[str]]:
    """Benchmark, decoding in words, intervention, accuracy and its interval."""
    for benchmark, by_decoding in accuracy.items():
        for decoding, kinds in by_decoding.items():
            for kind, row in kinds.items():
                shown = tables.percent(row.mean) + _over_tasks(row)
                yield [html.escape(benchmark), decodings[decoding].words, kind, shown]


def _over_tasks(row: Accuracy) -> str:
    if row.tasks is None:
        return ""
    return (
        f" <small>[{tables.percent(row.tasks.low)}, {tables.percent(row.tasks.high)}] over "
        f"{row.tasks.n} tasks</small>"
    )


def graders(numbers: TrainingStatistics) -> str:
    """The same answers under our verifier and under the papers' graders, as far as theirs were used
    on such answers.
    """
    rows = [
        [html.escape(label), html.escape(name)]
        + [tables.percent(value) for value in (row.accuracy, row.c3, row.ccpo)]
        for label, condition in numbers.conditions.items()
        for name, row in condition.graders.items()
    ]
    if not rows:
        return "<p>No answers of kinds that they were used on.</p>"
    return page.table(["condition", "benchmark", "ours, %", "C3's, %", "CCPO's (PRIME), %"], rows)


def forecast(plan: Forecast, planned: TrainingManifest, runs: Path) -> str:
    """What was forecast before the runs, and what they took: tokens generated in training, seconds
    inside updates.
    """
    rows = []
    ids = {condition.label: list(condition.runs.values()) for condition in planned.conditions}
    for row in plan.conditions:
        folders = [runs / run for run in ids.get(row.condition, [])]
        if len(folders) != row.runs or not all(messages.holds(folder, SPENT) for folder in folders):
            continue  # the experiment was changed since, or a run is missing
        tokens = sum(_sum(folder, "ledger", "generated_tokens") for folder in folders)
        seconds = sum(_sum(folder, "seconds", "seconds") for folder in folders)
        cells = [html.escape(row.condition), row.source]
        for expected, actual, in_words in (
            (row.train_tokens, tokens, tables.amount),
            (row.update_seconds, seconds, tables.duration),
        ):
            off = f"{100 * (expected / actual - 1):+.0f} %" if actual else "–"
            cells += [in_words(expected), in_words(actual), off]
        rows.append(cells)
    names = [
        "condition",
        "known from",
        "tokens, forecast",
        "actual",
        "off by",
        "time of updates, forecast",
        "actual",
        "off by",
    ]
    return page.table(names, rows)


def _sum(run: Path, name: str, column: str) -> float:
    return float(schema.read_table(run / f"{name}.parquet", name).to_pandas()[column].sum())


def _figure(path: Path) -> str:
    svg = path.read_text()
    svg = svg[svg.index("<svg") :]
    # ids must be unique in the page, and each figure was made by itself
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{path.stem}-", svg)
    svg = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", svg, count=1)
    caption = f"{figure.load(path.stem).CAPTION} Numbers: <code>figures/{path.stem}.csv</code>."
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"
