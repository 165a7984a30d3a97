"""An audit's figures, table and report parts: credit methods against truth in oracle worlds. Made from stats.json and nothing else."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import pandas as pd

COLOURS = {
    "none": "#000000",
    "group_mean": "#0072B2",
    "group_z": "#D55E00",
    "batch_whiten": "#009E73",
    "gae": "#CC79A7",
    "leave_one_out": "#E69F00",
    "history": "#56B4E9",
}  # Okabe and Ito
# What is drawn: leave_one_out is group_mean up to a factor, history is batch_whiten with older statistics; both are in the table.
DRAWN = ("none", "group_mean", "group_z", "batch_whiten", "gae")
CAPTIONS = {
    "audit_gradient": (
        "Squared error of a task's gradient estimate against the exact gradient, at equal generated tokens, over that of the shared "
        "reward under group_mean in the same world: geometric mean and 95 % t-interval over worlds. Left of 1 is better. A method's "
        "constant scale is taken out."
    ),
    "audit_error": (
        "Mean squared error of the advantages against A* at equal generated tokens, over that of the shared reward under group_mean: "
        "as above."
    ),
    "audit_bias": (
        "Root mean square over contexts and messages of E[advantage] / scale - A*, summed over all trees: mean and interval over "
        "worlds. 0 is an unbiased estimate of A*; more may still give an unbiased gradient."
    ),
    "audit_riders": (
        "Worlds in which only the last message matters: spread of the advantage of agents before it, over that of the last agent. "
        "Nothing of it can teach anything."
    ),
}


def frame(numbers: dict[str, Any]) -> pd.DataFrame:
    """One row for each shape of world, method and advantage: means over worlds, and the ratios to the reference with their intervals."""
    rows = []
    for cell in numbers["cells"]:
        row = {k: cell[k] for k in ("shape", "method", "advantage", "worlds")}
        row |= {k: cell[k]["mean"] for k in ("tokens", "evaluator_calls", "bias", "variance", "spearman", "cosine", "batch_cosine")}
        row |= {"role_information": cell["role_information"]["mean"]}
        for name in ("mse_tokens", "mse_calls", "noise_tokens", "noise_calls"):
            found = cell[f"{name}_ratio"] or {}
            row |= {f"{name}_ratio{end}": found.get(k) for k, end in (("mean", ""), ("ci_low", "_low"), ("ci_high", "_high"))}
        rows.append(row)
    return pd.DataFrame(rows)


def _ratios(name: str) -> Callable[[dict[str, Any]], pd.DataFrame]:
    def collect(numbers: dict[str, Any]) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {**{k: c[k] for k in ("shape", "method", "advantage")}, **c[f"{name}_ratio"]}
                for c in numbers["cells"]
                if c[f"{name}_ratio"] and c["advantage"] in DRAWN
            ]
        )

    return collect


def _bias(numbers: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        [{**{k: c[k] for k in ("shape", "method", "advantage")}, **c["bias"]} for c in numbers["cells"] if c["advantage"] in DRAWN]
    )


def _riders(numbers: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([row for row in numbers["riders"] if row["advantage"] in DRAWN])


def _paint(title: str, x: str, log: bool, middle: float | None) -> Callable[[pd.DataFrame, Any, dict[str, str]], None]:
    """A dot with its interval for each method (rows, by shape of world) and advantage (colours)."""

    def paint(frame: pd.DataFrame, axes: Any, _: dict[str, str]) -> None:
        rows = list(dict.fromkeys(zip(frame["shape"], frame["method"], strict=True)))
        axes.figure.set_size_inches(6.6, 1.5 + 0.3 * len(rows))
        drawn = [a for a in DRAWN if a in set(frame.advantage)]
        for k, advantage in enumerate(drawn):
            here = frame[frame.advantage == advantage]
            y = [rows.index(pair) + 0.13 * (k - (len(drawn) - 1) / 2) for pair in zip(here["shape"], here["method"], strict=True)]
            low, high = (here["mean"] - here.ci_low).clip(lower=0), (here.ci_high - here["mean"]).clip(lower=0)
            axes.errorbar(here["mean"], y, xerr=[low, high], fmt="o", ms=4, lw=1.2, color=COLOURS[advantage], label=advantage)
        axes.set_yticks(range(len(rows)), [f"{shape}  {method}" for shape, method in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        for i in range(1, len(rows)):
            if rows[i][0] != rows[i - 1][0]:
                axes.axhline(i - 0.5, color="#555555", lw=0.9)
        if middle is not None:
            axes.axvline(middle, color="#555555", lw=0.9)
        if log:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(x)
        axes.figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
        axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5)

    return paint


FIGURES: dict[str, tuple[Callable[[dict[str, Any]], pd.DataFrame], Callable[[pd.DataFrame, Any, dict[str, str]], None]]] = {
    "audit_gradient": (_ratios("noise_tokens"), _paint("Gradient error at equal tokens", "times that of shared, group_mean", True, 1.0)),
    "audit_error": (_ratios("mse_tokens"), _paint("Advantage error at equal tokens", "times that of shared, group_mean", True, 1.0)),
    "audit_bias": (_bias, _paint("Bias as an estimate of A*", "root mean square, in units of the outcome", False, 0.0)),
    "audit_riders": (_riders, _paint("Advantage paid to agents who change nothing", "spread over the last agent's", False, 0.0)),
}


def parts(numbers: dict[str, Any], figures: str) -> list[str]:
    """The report's body: claims, table, figures, and what was not measured."""
    said = "".join(
        f"<li><b>{html.escape(c['claim'][0].upper() + c['claim'][1:])}: {c['verdict']}.</b> {html.escape(c['numbers'])}</li>"
        for c in numbers["claims"]
    )
    reference = " under ".join(numbers["reference"])
    worlds = f"{len(numbers['families'])} families of {numbers['instances']} worlds for each shape"
    skipped = "".join(f"<li>{html.escape(m)} in {html.escape(s)} worlds: {html.escape(why)}</li>" for m, s, why in numbers["skipped"])
    return [
        f"<h2>Which published claims hold here</h2><ul>{said}</ul>",
        f"<h2>Methods against truth</h2><p>{worlds}. Ratios are to {html.escape(reference)} in the same world, at equal "
        "generated tokens and at equal evaluator calls; below 1 is better. Batches of "
        f"{numbers['tokens']:,} tokens.</p><div class='wide'>{_table(frame(numbers))}</div>",
        f"<h2>Figures</h2>{figures}",
        f"<h2>Not measured, since it means nothing</h2><ul>{skipped}</ul>" if skipped else "",
    ]


def _table(cells: pd.DataFrame) -> str:
    def band(row: Any, name: str) -> str:
        mean, low, high = (row[f"{name}_ratio{end}"] for end in ("", "_low", "_high"))
        if pd.isna(mean):
            return "–"
        return f"{mean:.2f}" + ("" if pd.isna(low) else f" <small>[{low:.2f}, {high:.2f}]</small>")

    names = [
        "world",
        "method",
        "advantage",
        "tokens a task",
        "evaluator calls",
        "bias",
        "Spearman with A*",
        "cosine, expected",
        "cosine, one batch",
        "role information",
        "advantage error / tokens",
        "gradient error / tokens",
        "gradient error / calls",
    ]
    lines = []
    for _, r in cells.iterrows():
        values = [
            *(html.escape(str(r[k])) for k in ("shape", "method", "advantage")),
            f"{r.tokens:g}",
            f"{r.evaluator_calls:g}",
            f"{r.bias:.3f}",
            f"{r.spearman:.2f}",
            f"{r.cosine:.3f}",
            f"{r.batch_cosine:.3f}",
            f"{r.role_information:.2f}",
            *(band(r, name) for name in ("mse_tokens", "noise_tokens", "noise_calls")),
        ]
        lines.append("<tr>" + "".join(f"<td>{v}</td>" for v in values) + "</tr>")
    return f"<table><tr>{''.join(f'<th>{n}</th>' for n in names)}</tr>{''.join(lines)}</table>"
