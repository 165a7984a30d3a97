"""Table and report parts of an oracle experiment: credit methods against truth in oracle worlds.
Made from stats.json and nothing else.
"""

from __future__ import annotations

import html

import pandas as pd

from ccpo.publish import page
from ccpo.publish.statistics import Cell, Interval, OracleStatistics, Sampled

# in the report's first table; the others follow folded up
TABLED = ("none", "group_mean", "group_z", "batch_whiten")


def frame(numbers: OracleStatistics) -> pd.DataFrame:
    """One row for each family (or all), shape of world, method and advantage: means over worlds,
    ratios to the reference with intervals.
    """
    return pd.DataFrame([_row(cell) for cell in numbers.cells])


def _row(cell: Cell) -> dict[str, object]:
    return {
        "family": cell.family,
        "shape": cell.shape,
        "method": cell.method,
        "advantage": cell.advantage,
        "worlds": cell.worlds,
        "tokens": cell.tokens.mean,
        "evaluator_calls": cell.evaluator_calls.mean,
        "bias_raw": cell.bias_raw.mean,
        "bias": cell.bias.mean,
        "spearman": cell.spearman.mean,
        "cosine": cell.cosine.mean,
        "team_cosine": cell.team_cosine.mean,
        "batch_cosine": cell.batch_cosine.mean,
        "outcome_correlation": cell.outcome_correlation.mean,
        "role_information": cell.role_information.mean,
        **_ratio("variance", cell.variance_ratio),
        **_ratio("mse_tokens", cell.mse_tokens_ratio),
        **_ratio("mse_calls", cell.mse_calls_ratio),
        **_ratio("noise_tokens", cell.noise_tokens_ratio),
        **_ratio("noise_calls", cell.noise_calls_ratio),
    }


def _ratio(name: str, row: Interval | None) -> dict[str, float | None]:
    return {
        f"{name}_ratio": row.mean if row else None,
        f"{name}_ratio_low": row.ci_low if row else None,
        f"{name}_ratio_high": row.ci_high if row else None,
    }


def parts(numbers: OracleStatistics, figures: str) -> list[str]:
    """The report's body: claims, table, figures, and what was not measured."""
    claims = [
        f"<b>{html.escape(c.claim[0].upper() + c.claim[1:])}: {c.verdict}.</b> "
        f"{html.escape(c.numbers)}"
        for c in numbers.claims
    ]
    skipped = [html.escape(f"{s.method} in {s.shape} worlds: {s.reason}") for s in numbers.skipped]
    return [
        "<h2>Which published claims hold here</h2>"
        f"<p>{html.escape(numbers.summary)}</p>{page.listed(claims)}",
        f"<h2>Sums against draws</h2><p>{html.escape(_sampled(numbers.sampled))}</p>",
        f"<h2>Methods against truth</h2><p>{html.escape(_explained(numbers))}</p>"
        f"{_tables(numbers)}",
        f"<h2>Figures</h2>{figures}",
        f"<h2>Not measured, since it means nothing</h2>{page.listed(skipped)}" if skipped else "",
    ]


def _explained(numbers: OracleStatistics) -> str:
    """What the table of methods shows."""
    return (
        f"{len(numbers.families)} families of {numbers.instances} worlds for each shape. Ratios "
        f"are to {' under '.join(numbers.reference)} in the same world, at equal generated tokens "
        "and at equal evaluator calls; below 1 is better. Batches of "
        f"{numbers.tokens:,} tokens. Two kinds of bias: of the advantage as an estimate of A* (as "
        "given, and after the best constant scale), and of the gradient (cosine below 1), which a "
        "baseline that the own message does not move leaves alone. The team's cosine is that of "
        "all turns side by side: it is lower where a method weighs roles unlike the truth."
    )


def _tables(numbers: OracleStatistics) -> str:
    """All families together under the advantages of TABLED; the rest folded up."""
    cells = frame(numbers)
    together = cells.family == "all"
    shown = cells[together & cells.advantage.isin(TABLED)]
    folded = {"All families, the other advantages": cells[together & ~cells.advantage.isin(TABLED)]}
    folded |= {f"Family {name}": cells[cells.family == name] for name in numbers.families}
    more = "".join(
        page.folded(name, page.wide(_table(rows))) for name, rows in folded.items() if len(rows)
    )
    return page.wide(_table(shown)) + more


def _sampled(row: Sampled) -> str:
    """What the draws say of the sums."""
    return (
        f"Every expectation is summed over all trees, and drawn again: {row.trees:,} trees of each "
        f"method in each world, {row.comparisons:,} means by context and message under "
        f"{row.groups:,} combinations of method, advantage, world and turn. The farthest is "
        f"{row.worst:.2f} standard errors off; {row.beyond} combinations hold one beyond 4, where "
        f"chance alone would put {row.by_chance:.1f} of as many independent means. In the "
        f"{row.biased:,} combinations whose advantage is no unbiased estimate of A*, the draws "
        f"show the same bias, to {row.biased_worst:.2f} standard errors."
    )


def _table(cells: pd.DataFrame) -> str:
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
    lines = [
        [
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
            *(_band(r, name) for name in ("variance", "mse_tokens", "noise_tokens", "noise_calls")),
        ]
        for _, r in cells.iterrows()
    ]
    return page.table(names, lines)


def _band(row: pd.Series, name: str) -> str:
    """A ratio with its interval."""
    mean = row[f"{name}_ratio"]
    low = row[f"{name}_ratio_low"]
    high = row[f"{name}_ratio_high"]
    if pd.isna(mean):
        return "–"
    return f"{mean:.2f}" + ("" if pd.isna(low) else f" <small>[{low:.2f}, {high:.2f}]</small>")
