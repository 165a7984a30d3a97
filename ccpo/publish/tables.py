"""The main table of an experiment: made from stats.json, as CSV and as HTML."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pandas as pd

from ccpo import lineage, schema
from ccpo.publish import oracle


def frame(numbers: dict[str, Any]) -> pd.DataFrame:
    """One row for each condition; accuracies as fractions, tokens and evaluator calls of training
    as means over seeds.
    """
    rows = []
    for label, c in numbers["conditions"].items():
        decodings = c["accuracy"][c["benchmark"]]
        kinds = decodings[c["primary"]]
        gain = c["gain"] or {}
        at_one: dict[str, Any] = next(
            (
                decodings[name]
                for name, drawn in c["decodings"].items()
                if drawn["temperature"] == 1
            ),
            {},
        )
        rows.append(
            {
                "condition": label,
                "team": c["team"],
                "credit": c["credit"],
                "model": c["model"],
                "policy": c["policy"],
                "seeds": len(c["seeds"]),
                "untrained": kinds.get("untrained", {}).get("mean"),
                "accuracy": kinds["factual"]["mean"],
                "ci_low": kinds["factual"]["ci_low"],
                "ci_high": kinds["factual"]["ci_high"],
                "accuracy_at_1": at_one.get("factual", {}).get("mean"),
                "untrained_at_1": at_one.get("untrained", {}).get("mean"),
                "untrained_best": decodings[gain["best"]]["untrained"]["mean"] if gain else None,
                "gain_beyond_temperature": gain["beyond"]["mean"] if gain else None,
                "seeds_gaining_15_points": gain.get("seeds_counted"),
                "accuracy_clean": c["clean"].get(c["benchmark"], {}).get("mean"),
                "items_with_defects": c["clean"].get(c["benchmark"], {}).get("defects"),
                "leakage": c["leakage"],
                "leakage_by_chance": c["leakage_by_chance"],
                "late_verdicts": c["late"]["training"] + c["late"]["evaluation"],
                "updates": c["updates"],
                "generated_tokens": c["ledger"]["generated_tokens"],
                "evaluator_calls": c["ledger"]["evaluator_calls"],
            }
        )
    return pd.DataFrame(rows)


def write(stats: Path, csv: Path) -> Path:
    """Writes the table as CSV, and its numbers as JSON beside it (the form that `dvc metrics`
    reads); returns the path of the JSON.
    """
    found = schema.read_json(stats)
    table = oracle.frame(found).assign(condition=_cell_names) if "cells" in found else frame(found)
    schema.write_text(csv, table.to_csv(index=False))
    beside = csv.with_suffix(".json")
    numbers = table.set_index("condition").select_dtypes("number")
    rows = {
        label: {k: v for k, v in row.items() if not pd.isna(v)}
        for label, row in numbers.to_dict("index").items()
    }
    schema.write_json(beside, rows)
    for artefact in (csv, beside):
        lineage.write_passport(artefact, [stats])
    return beside


def _cell_names(cells: pd.DataFrame) -> pd.Series:
    """A name for each row of an oracle experiment's table."""
    return cells["family"] + "/" + cells["shape"] + "/" + cells["method"] + "/" + cells["advantage"]


def percent(value: Any, signed: bool = False) -> str:
    """A fraction in per cent, or a dash."""
    return "–" if value is None or pd.isna(value) else f"{100 * value:{'+' if signed else ''}.1f}"


def page(csv: Path) -> str:
    """The table as HTML, from its CSV."""
    rows = []
    for r in pd.read_csv(csv).to_dict("records"):
        band = (
            f" <small>[{percent(r['ci_low'])}, {percent(r['ci_high'])}]</small>"
            if not pd.isna(r["ci_low"])
            else ""
        )
        counted = (
            "–"
            if pd.isna(r["seeds_gaining_15_points"])
            else f"{int(r['seeds_gaining_15_points'])} of {r['seeds']}"
        )
        cells = [
            html.escape(str(r["condition"])),
            html.escape(f"{r['team']}, {r['credit']}"),
            html.escape(f"{r['model']}, {r['policy']}"),
            percent(r["untrained"]),
            percent(r["untrained_best"]),
            percent(r["accuracy"]) + band,
            percent(r["accuracy_clean"]),
            percent(r["accuracy_at_1"]),
            percent(r["gain_beyond_temperature"], signed=True),
            counted,
            f"{r['updates']:,.0f}",
            f"{r['generated_tokens']:,.0f}",
            f"{r['evaluator_calls']:,.0f}",
            f"{r['late_verdicts']:,.0f}",
        ]
        rows.append("<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
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
    return f"<table><tr>{''.join(f'<th>{n}</th>' for n in names)}</tr>{''.join(rows)}</table>"


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
