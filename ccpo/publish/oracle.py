"""Table and report parts of an oracle experiment: credit methods against truth in oracle worlds.
Made from stats.json and nothing else.
"""

from __future__ import annotations

import html
from typing import Any

import pandas as pd

# in the report's first table; the others follow folded up
TABLED = (
    "none",
    "group_mean",
    "group_z",
    "batch_whiten",
)


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
    """One row for each family (or all), shape of world, method and advantage: means over worlds,
    ratios to the reference with intervals.
    """
    rows = []
    for cell in numbers["cells"]:
        row = {k: cell[k] for k in ("family", "shape", "method", "advantage", "worlds")}
        row |= {k: cell[k]["mean"] for k in MEANS}
        for name in ("variance", "mse_tokens", "mse_calls", "noise_tokens", "noise_calls"):
            found = cell[f"{name}_ratio"] or {}
            row |= {
                f"{name}_ratio{end}": found.get(k)
                for k, end in (("mean", ""), ("ci_low", "_low"), ("ci_high", "_high"))
            }
        rows.append(row)
    return pd.DataFrame(rows)


def parts(numbers: dict[str, Any], figures: str) -> list[str]:
    """The report's body: claims, table, figures, and what was not measured."""
    said = "".join(
        f"<li><b>{html.escape(c['claim'][0].upper() + c['claim'][1:])}: {c['verdict']}.</b> "
        f"{html.escape(c['numbers'])}</li>"
        for c in numbers["claims"]
    )
    reference = " under ".join(numbers["reference"])
    worlds = f"{len(numbers['families'])} families of {numbers['instances']} worlds for each shape"
    skipped = "".join(
        f"<li>{html.escape(m)} in {html.escape(s)} worlds: {html.escape(why)}</li>"
        for m, s, why in numbers["skipped"]
    )
    cells = frame(numbers)
    first = cells.family == "all"
    folded = {"All families, the other advantages": cells[first & ~cells.advantage.isin(TABLED)]}
    folded |= {f"Family {name}": cells[cells.family == name] for name in numbers["families"]}
    more = "".join(
        f"<details><summary>{html.escape(name)}</summary><div "
        f"class='wide'>{_table(rows)}</div></details>"
        for name, rows in folded.items()
        if len(rows)
    )
    return [
        "<h2>Which published claims hold "
        f"here</h2><p>{html.escape(numbers['summary'])}</p><ul>{said}</ul>",
        f"<h2>Sums against draws</h2><p>{html.escape(_sampled(numbers['sampled']))}</p>",
        f"<h2>Methods against truth</h2><p>{worlds}. Ratios are to {html.escape(reference)} in "
        "the same world, at equal "
        "generated tokens and at equal evaluator calls; below 1 is better. Batches of "
        f"{numbers['tokens']:,} tokens. Two kinds of bias: of the advantage as an estimate of A* "
        "(as given, and after the best constant "
        "scale), and of the gradient (cosine below 1), which a baseline that the own message "
        "does not move leaves alone. The team's cosine "
        "is that of all turns side by side: it is lower where a method weighs roles unlike the "
        "truth.</p><div class='wide'>"
        f"{_table(cells[first & cells.advantage.isin(TABLED)])}</div>{more}",
        f"<h2>Figures</h2>{figures}",
        f"<h2>Not measured, since it means nothing</h2><ul>{skipped}</ul>" if skipped else "",
    ]


def _sampled(found: dict[str, Any]) -> str:
    """What the draws say of the sums."""
    return (
        f"Every expectation is summed over all trees, and drawn again: {found['trees']:,} trees "
        "of each method in each world, "
        f"{found['comparisons']:,} means by context and message under {found['groups']:,} "
        "combinations of method, advantage, world and "
        f"turn. The farthest is {found['worst']:.2f} standard errors off; {found['beyond']} "
        "combinations hold one beyond 4, where chance "
        f"alone would put {found['by_chance']:.1f} of as many independent means. In the "
        f"{found['biased']:,} combinations whose advantage "
        "is no unbiased estimate of A*, the draws show the same bias, to "
        f"{found['biased_worst']:.2f} standard errors."
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
