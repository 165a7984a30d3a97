"""What a page shows of several answers to a task: avg@k, pass@k, majority@k, and teams against a
single agent at equal tokens.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping

from ccpo.publish import page, tables
from ccpo.publish.metric_statistics import AgainstSingle, Bounds, ByPlayed, Levels
from ccpo.publish.statistics import Decoding, TrainingStatistics

LEVELS = (
    "Accuracies in per cent with 95 % intervals, each by what would be drawn anew: other training "
    "seeds, other tasks (these policies), or both. They are of levels; differences are paired, and "
    "narrower."
)
COLUMNS = ("condition", "benchmark", "answering", "team", "metric", "%", "seeds", "tasks", "both")


def by_samples(numbers: TrainingStatistics) -> str:
    """avg@k, and pass@k and majority@k at powers of two and at the largest k, for all protocols."""
    shown = f"<p>{LEVELS}</p>"
    rows = [
        [html.escape(label), *cells]
        for label, condition in numbers.conditions.items()
        for cells in _metrics(condition.metrics, condition.decodings)
    ]
    shown += page.folded("By condition, benchmark and temperature", page.table(COLUMNS, rows))
    for other in numbers.others:
        rows = [
            [html.escape(label), *cells]
            for label, metrics in other.metrics.items()
            for cells in _metrics(metrics, other.decodings)
        ]
        shown += page.folded(f"Under protocol {other.name}", page.table(COLUMNS, rows))
    return shown


def _metrics(by_played: ByPlayed, decodings: Mapping[str, Decoding]) -> Iterator[list[str]]:
    for benchmark, of_benchmark in by_played.items():
        for decoding, kinds in of_benchmark.items():
            for kind, metrics in kinds.items():
                head = [html.escape(benchmark), decodings[decoding].words, kind]
                k = metrics.samples
                yield [*head, f"avg@{k}", *_levels(metrics.average)]
                for name, curve in (("pass", metrics.pass_at), ("majority", metrics.majority_at)):
                    for n, levels in curve.items():
                        if n > 1 and (n & (n - 1) == 0 or n == k):
                            yield [*head, f"{name}@{n}", *_levels(levels)]


def _levels(levels: Levels) -> list[str]:
    ends = (levels.seeds, levels.items, levels.both)
    return [tables.percent(levels.mean), *(_ends(bounds) for bounds in ends)]


def _ends(bounds: Bounds | None) -> str:
    if bounds is None:
        return "–"
    return f"[{tables.percent(bounds[0])}, {tables.percent(bounds[1])}]"


def against_single(numbers: TrainingStatistics) -> str:
    """Every team against the single agent of its model."""
    if numbers.equal_tokens is None or not numbers.equal_tokens.rows:
        return "<p>No single agent stands beside a team.</p>"
    names = [
        "team",
        "single agent",
        "tokens a task",
        "answers of the single agent",
        "their tokens",
        "team, %",
        "majority, %",
        "difference, points [95 % interval over seeds]",
        "tokens match",
    ]
    return page.table(names, [_against(row) for row in numbers.equal_tokens.rows])


def _against(row: AgainstSingle) -> list[str]:
    difference = row.difference
    return [
        html.escape(row.team),
        html.escape(row.single),
        f"{row.team_tokens:.1f}",
        f"{row.k} {row.words}",
        f"{row.single_tokens:.1f}",
        tables.percent(row.team_accuracy),
        tables.percent(row.single_accuracy),
        tables.percent(difference.mean, True)
        + tables.band(difference.ci_low, difference.ci_high, True),
        "yes" if row.matched else "no",
    ]
