"""pass@k and majority@k by the number of answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ccpo.publish.figure import Contents
from ccpo.publish.figure._axes import labels, legend
from ccpo.publish.metric_statistics import ByPlayed, Levels, Metrics
from ccpo.publish.statistics import FACTUAL, Decoding, TrainingStatistics

KIND = "training"
ORDER = 4
CAPTION = (
    "Of k answers to a task: how often one at least is right (pass@k), and how often the most "
    "frequent one is (majority@k, ties by lot). Bands are t-intervals over training seeds. What "
    "training found shows at k = 1 and at the right end; what it only made surer, at k = 1 alone."
)
LEAST = 4  # samples of a curve
PANELS = {"pass@k, %": "pass_at", "majority@k, %": "majority_at"}


def applies(contents: Contents) -> bool:
    """Where so many answers are drawn that there is a curve."""
    return contents.samples >= LEAST


def collect(numbers: TrainingStatistics) -> pd.DataFrame:
    """The plotted numbers, of the protocol under which the most conditions have a curve (of several
    the first): of the decoding with the most samples, on every benchmark.
    """
    protocols = [
        (
            {label: condition.metrics for label, condition in numbers.conditions.items()},
            {name: d for c in numbers.conditions.values() for name, d in c.decodings.items()},
        ),
        *((other.metrics, other.decodings) for other in numbers.others),
    ]
    frames = [pd.DataFrame(_of_protocol(*protocol)) for protocol in protocols]
    return max(frames, key=lambda frame: frame.condition.nunique() if len(frame) else 0)


def _of_protocol(
    metrics: Mapping[str, ByPlayed], decodings: Mapping[str, Decoding]
) -> list[dict[str, object]]:
    rows = []
    for label, by_benchmark in metrics.items():
        for benchmark, kinds in by_benchmark.items():
            curves = _of(kinds, decodings)
            rows += _rows(label, benchmark, *curves) if curves else []
    return rows


def _of(
    by_decoding: Mapping[str, Mapping[str, Metrics]], decodings: Mapping[str, Decoding]
) -> tuple[Metrics, str] | None:
    """The metrics that a curve is drawn of, and how the answers were drawn; None of too few."""
    drawn = [
        (kinds[FACTUAL].samples, decodings[name].temperature, name)
        for name, kinds in by_decoding.items()
        if FACTUAL in kinds
    ]
    samples, _, name = max(drawn, default=(0, 0.0, ""))
    return (by_decoding[name][FACTUAL], decodings[name].words) if samples >= LEAST else None


def _rows(label: str, benchmark: str, metrics: Metrics, words: str) -> list[dict[str, object]]:
    return [
        {
            "condition": label,
            "panel": f"{benchmark}: {title}",
            "benchmark": benchmark,
            "answering": words,
            "k": k,
            "mean": levels.mean,
            **_ends(levels),
            "n": metrics.replicates,
        }
        for title, curve in PANELS.items()
        for k, levels in getattr(metrics, curve).items()
    ]


def _ends(levels: Levels) -> dict[str, float | None]:
    low, high = levels.seeds or (None, None)
    return {"ci_low": low, "ci_high": high}


def paint(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel: a line for each condition."""
    for condition, rows in frame.groupby("condition", sort=False):
        line = rows.sort_values("k")
        colour = colours[str(condition)]
        axes.plot(line.k, line["mean"] * 100, "o-", color=colour, ms=4, label=condition)
        if line.ci_low.notna().all():
            low = line.ci_low.astype(float) * 100
            high = line.ci_high.astype(float) * 100
            axes.fill_between(line.k, low, high, color=colour, alpha=0.12, lw=0)
    axes.set_xscale("log", base=2)
    ticks = [k for k in sorted(set(frame.k)) if k & (k - 1) == 0]
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.minorticks_off()
    drawn = ", or ".join(dict.fromkeys(frame.answering))
    labels(axes, f"By number of answers to a task, {drawn}", "answers, k", str(frame.panel.iloc[0]))
    legend(axes)
