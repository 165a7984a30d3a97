"""The main table of an experiment: made from stats.json, as CSV and as HTML."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pandas as pd

from ccpo import lineage, schema
from ccpo.publish import oracle, page, statistics
from ccpo.publish.statistics import (
    FACTUAL,
    UNTRAINED,
    Condition,
    OracleStatistics,
    TrainingStatistics,
)


def frame(numbers: TrainingStatistics) -> pd.DataFrame:
    """One row for each condition; accuracies as fractions, tokens and evaluator calls of training
    as means over seeds.
    """
    return pd.DataFrame([_row(label, c) for label, c in numbers.conditions.items()])


def _row(label: str, condition: Condition) -> dict[str, object]:
    trained = condition.main[FACTUAL]
    sampled = [name for name, d in condition.decodings.items() if d.temperature == 1]
    gain = condition.gain
    clean = condition.clean.get(condition.benchmark)
    return {
        "condition": label,
        "team": condition.team,
        "credit": condition.credit,
        "model": condition.model,
        "policy": condition.policy,
        "seeds": len(condition.seeds),
        "untrained": _mean(condition, condition.primary, UNTRAINED),
        "accuracy": trained.mean,
        "ci_low": trained.ci_low,
        "ci_high": trained.ci_high,
        "accuracy_at_1": _mean(condition, sampled[0], FACTUAL) if sampled else None,
        "untrained_at_1": _mean(condition, sampled[0], UNTRAINED) if sampled else None,
        "untrained_best": _mean(condition, gain.best, UNTRAINED) if gain else None,
        "gain_beyond_temperature": gain.beyond.mean if gain else None,
        "seeds_gaining_15_points": gain.seeds_counted if gain else None,
        "seeds_below_untrained": len(gain.collapsed) if gain else None,
        "accuracy_clean": clean.mean if clean else None,
        "items_with_defects": clean.defects if clean else None,
        "leakage": condition.leakage,
        "leakage_by_chance": condition.leakage_by_chance,
        "late_verdicts": condition.late.training + condition.late.evaluation,
        "updates": condition.updates,
        "generated_tokens": condition.ledger.generated_tokens,
        "evaluator_calls": condition.ledger.evaluator_calls,
    }


def _mean(condition: Condition, decoding: str, kind: str) -> float | None:
    row = condition.under(decoding).get(kind)
    return row.mean if row else None


def write(stats: Path, csv: Path) -> Path:
    """Writes the table as CSV, and its numbers as JSON beside it (the form that `dvc metrics`
    reads); returns the path of the JSON.
    """
    begun = lineage.begin([stats])
    text, rows = contents(stats)
    beside = csv.with_suffix(".json")
    schema.write_text(csv, text)
    schema.write_json(beside, rows)
    for artefact in (csv, beside):
        lineage.write_passport(artefact, begun)
    return beside


def contents(stats: Path) -> tuple[str, dict[str, dict[str, float]]]:
    """The table as CSV, and its numbers by row and column. ValueError as `statistics.read`."""
    numbers = statistics.read(stats)
    table = (
        oracle.frame(numbers).assign(condition=_cell_names)
        if isinstance(numbers, OracleStatistics)
        else frame(numbers)
    )
    rows = {
        label: {k: v for k, v in row.items() if not pd.isna(v)}
        for label, row in table.set_index("condition")
        .select_dtypes("number")
        .to_dict("index")
        .items()
    }
    return table.to_csv(index=False), rows


def _cell_names(cells: pd.DataFrame) -> pd.Series:
    """A name for each row of an oracle experiment's table."""
    return cells["family"] + "/" + cells["shape"] + "/" + cells["method"] + "/" + cells["advantage"]


def percent(value: Any, signed: bool = False) -> str:
    """A fraction in per cent, or a dash."""
    return "–" if value is None or pd.isna(value) else f"{100 * value:{'+' if signed else ''}.1f}"


def as_html(csv: Path) -> str:
    """The table as HTML, from its CSV."""
    names = [
        "condition",
        "team, credit",
        "model, policy",
        "untrained, %",
        "untrained at its best temperature, %",
        "trained, % [95 % interval]",
        "trained, without items of known defects, %",
        "trained at temperature 1, %",
        "gain beyond temperature, points",
        "seeds gaining 15 points",
        "updates",
        "generated tokens",
        "evaluator calls",
        "verdicts not reached",
    ]
    return page.table(names, [_cells(row) for row in pd.read_csv(csv).to_dict("records")])


def _cells(row: dict[Any, Any]) -> list[str]:
    counted = row["seeds_gaining_15_points"]
    return [
        html.escape(str(row["condition"])),
        html.escape(f"{row['team']}, {row['credit']}"),
        html.escape(f"{row['model']}, {row['policy']}"),
        percent(row["untrained"]),
        percent(row["untrained_best"]),
        percent(row["accuracy"]) + band(row["ci_low"], row["ci_high"]),
        percent(row["accuracy_clean"]),
        percent(row["accuracy_at_1"]),
        percent(row["gain_beyond_temperature"], signed=True),
        "–" if pd.isna(counted) else f"{int(counted)} of {row['seeds']}",
        f"{row['updates']:,.0f}",
        f"{row['generated_tokens']:,.0f}",
        f"{row['evaluator_calls']:,.0f}",
        f"{row['late_verdicts']:,.0f}",
    ]


def band(low: float | None, high: float | None, signed: bool = False) -> str:
    """An interval in per cent as HTML, or nothing."""
    if low is None or pd.isna(low):
        return ""
    return f" <small>[{percent(low, signed)}, {percent(high, signed)}]</small>"


def amount(number: float) -> str:
    """A count as people say it: 950, 12.3k, 4.1M, 2.0G."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them; "" for None."""
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
