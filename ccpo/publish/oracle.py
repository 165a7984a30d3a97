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
FAMILIES = {"necessity": "#0072B2", "redundancy": "#009E73", "free_riding": "#E69F00", "sabotage": "#D55E00"}
TABLED = ("none", "group_mean", "group_z", "batch_whiten")  # in the report's first table; the others follow folded up
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
    "audit_worlds": (
        "As the first figure, by family of worlds; each method under group_mean, those with a baseline of their own (c3, mappo) under none."
    ),
    "audit_riders": (
        "Worlds in which only the last message matters: spread of the advantage of agents before it, over that of the last agent. "
        "Nothing of it can teach anything."
    ),
}


MEANS = (
    "tokens",
    "evaluator_calls",
    "bias_raw",
    "bias",
    "spearman",
    "cosine",
    "team_cosine",
    "batch_cosine",
    "outcome_correlation",
    "role_information",
)


def frame(numbers: dict[str, Any]) -> pd.DataFrame:
    """One row for each family (or all), shape of world, method and advantage: means over worlds, ratios to the reference with intervals."""
    rows = []
    for cell in numbers["cells"]:
        row = {k: cell[k] for k in ("family", "shape", "method", "advantage", "worlds")}
        row |= {k: cell[k]["mean"] for k in MEANS}
        for name in ("variance", "mse_tokens", "mse_calls", "noise_tokens", "noise_calls"):
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
                if c["family"] == "all" and c[f"{name}_ratio"] and c["advantage"] in DRAWN
            ]
        )

    return collect


def _bias(numbers: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {**{k: c[k] for k in ("shape", "method", "advantage")}, **c["bias"]}
            for c in numbers["cells"]
            if c["family"] == "all" and c["advantage"] in DRAWN
        ]
    )


def _worlds(numbers: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {**{k: c[k] for k in ("family", "shape", "method", "advantage")}, **c["noise_tokens_ratio"]}
            for c in numbers["cells"]
            if c["family"] != "all"
            and c["noise_tokens_ratio"]
            and c["advantage"] == ("none" if c["method"].startswith(("c3", "mappo")) else "group_mean")
        ]
    )


def _riders(numbers: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([row for row in numbers["riders"] if row["advantage"] in DRAWN])


def _paint(
    title: str, x: str, log: bool, middle: float | None, by: str = "advantage"
) -> Callable[[pd.DataFrame, Any, dict[str, str]], None]:
    """A dot with its interval for each method (rows, by shape of world) and advantage, or family (colours)."""
    colours: dict[str, str] = COLOURS if by == "advantage" else FAMILIES

    def paint(frame: pd.DataFrame, axes: Any, _: dict[str, str]) -> None:
        rows = list(dict.fromkeys(zip(frame["shape"], frame["method"], strict=True)))
        axes.figure.set_size_inches(6.6, 1.5 + 0.3 * len(rows))
        drawn = [name for name in (DRAWN if by == "advantage" else FAMILIES) if name in set(frame[by])]
        for k, name in enumerate(drawn):
            here = frame[frame[by] == name]
            y = [rows.index(pair) + 0.13 * (k - (len(drawn) - 1) / 2) for pair in zip(here["shape"], here["method"], strict=True)]
            low, high = (here["mean"] - here.ci_low).clip(lower=0), (here.ci_high - here["mean"]).clip(lower=0)
            axes.errorbar(here["mean"], y, xerr=[low, high], fmt="o", ms=4, lw=1.2, color=colours[name], label=name)
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
    "audit_worlds": (
        _worlds,
        _paint("Gradient error at equal tokens, by family", "times that of shared, group_mean", True, 1.0, "family"),
    ),
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
    cells = frame(numbers)
    first = cells.family == "all"
    folded = {"All families, the other advantages": cells[first & ~cells.advantage.isin(TABLED)]}
    folded |= {f"Family {name}": cells[cells.family == name] for name in numbers["families"]}
    more = "".join(
        f"<details><summary>{html.escape(name)}</summary><div class='wide'>{_table(rows)}</div></details>"
        for name, rows in folded.items()
        if len(rows)
    )
    return [
        f"<h2>Which published claims hold here</h2><p>{html.escape(numbers['summary'])}</p><ul>{said}</ul>",
        f"<h2>Sums against draws</h2><p>{html.escape(_sampled(numbers['sampled']))}</p>",
        f"<h2>Methods against truth</h2><p>{worlds}. Ratios are to {html.escape(reference)} in the same world, at equal "
        "generated tokens and at equal evaluator calls; below 1 is better. Batches of "
        f"{numbers['tokens']:,} tokens. Two kinds of bias: of the advantage as an estimate of A* (as given, and after the best constant "
        "scale), and of the gradient (cosine below 1), which a baseline that the own message does not move leaves alone. The team's cosine "
        f"is that of all turns side by side: it is lower where a method weighs roles unlike the truth.</p><div class='wide'>"
        f"{_table(cells[first & cells.advantage.isin(TABLED)])}</div>{more}",
        f"<h2>Figures</h2>{figures}",
        f"<h2>Not measured, since it means nothing</h2><ul>{skipped}</ul>" if skipped else "",
    ]


def _sampled(found: dict[str, Any]) -> str:
    """What the draws say of the sums."""
    return (
        f"Every expectation is summed over all trees, and drawn again: {found['trees']:,} trees of each method in each world, "
        f"{found['comparisons']:,} means by context and message under {found['groups']:,} combinations of method, advantage, world and "
        f"turn. The farthest is {found['worst']:.2f} standard errors off; {found['beyond']} combinations hold one beyond 4, where chance "
        f"alone would put {found['by_chance']:.1f} of as many independent means. In the {found['biased']:,} combinations whose advantage "
        f"is no unbiased estimate of A*, the draws show the same bias, to {found['biased_worst']:.2f} standard errors."
    )


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
        "bias as given",
        "bias after scale",
        "Spearman with A*",
        "cosine, expected",
        "cosine, team",
        "cosine, one batch",
        "correlation with outcome",
        "role information",
        "variance",
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
            f"{r.bias_raw:.3f}",
            f"{r.bias:.3f}",
            f"{r.spearman:.2f}",
            f"{r.cosine:.3f}",
            f"{r.team_cosine:.3f}",
            f"{r.batch_cosine:.3f}",
            f"{r.outcome_correlation:.2f}",
            f"{r.role_information:.2f}",
            *(band(r, name) for name in ("variance", "mse_tokens", "noise_tokens", "noise_calls")),
        ]
        lines.append("<tr>" + "".join(f"<td>{v}</td>" for v in values) + "</tr>")
    return f"<table><tr>{''.join(f'<th>{n}</th>' for n in names)}</tr>{''.join(lines)}</table>"
