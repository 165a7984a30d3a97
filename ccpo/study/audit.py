"""From the diagnostics of an audit to its statistics: stats.json, with a sentence for each published claim.

The replication unit is the world: an instance of a family. Methods are compared in the same worlds, so that differences are paired;
ratios are averaged as logarithms.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ccpo import schema
from ccpo.study import diagnose
from ccpo.study import stats as st

FIGURES = (
    "bias",
    "bias_raw",
    "variance",
    "mse_tokens",
    "mse_calls",
    "spearman",
    "cosine",
    "batch_cosine",
    "noise_tokens",
    "noise_calls",
    "role_information",
    "tokens",
    "evaluator_calls",
)
RATIOS = ("mse_tokens", "mse_calls", "noise_tokens", "noise_calls")  # to the reference, in the same world
REFERENCE = ("shared", "group_mean")
ZERO = 1e-9
SHAPES = list(diagnose.TEAMS)
WORLD = ["family", "instance"]


def compare(*, experiment: Path, diagnostics: list[Path], stats: Path) -> None:
    """Writes stats.json of an audit.

    Raises:
        ValueError: a table is missing or of another schema.
    """
    manifest = schema.read_json(experiment)
    table = pd.concat([schema.read_table(path, "diagnostics").to_pandas() for path in diagnostics], ignore_index=True)
    skipped = [row for path in diagnostics for row in schema.read_json(path.with_suffix(".skipped.json"))]
    order = {name: i for i, name in enumerate(manifest["methods"])}
    worlds = table.groupby(["shape", *WORLD, "method", "advantage"], as_index=False)[list(FIGURES)].mean()  # over turns
    cells = _cells(worlds, order)
    numbers = {
        **{k: manifest[k] for k in ("experiment", "question", "note", "shapes", "families", "instances", "tokens")},
        "reference": list(REFERENCE),
        "cells": cells,
        "riders": _riders(table, order),
        "claims": claims(table, worlds),
        "skipped": sorted({(s["method"], s["shape"], s["reason"]) for s in skipped}),
    }
    schema.write_json(stats, numbers)


def _cells(worlds: pd.DataFrame, order: dict[str, int]) -> list[dict[str, Any]]:
    """Each figure's mean and t-interval over worlds by shape, method and advantage, and the ratios to the reference."""
    out = []
    for (shape, method, advantage), rows in worlds.groupby(["shape", "method", "advantage"], sort=False):
        cell: dict[str, Any] = {"shape": shape, "method": method, "advantage": advantage, "worlds": len(rows)}
        cell |= {name: asdict(st.interval(rows[name])) for name in FIGURES}
        cell |= {f"{name}_ratio": ratio(worlds, str(shape), (str(method), str(advantage)), REFERENCE, name) for name in RATIOS}
        out.append(cell)
    return sorted(out, key=lambda c: (SHAPES.index(c["shape"]), order[c["method"]]))


def ratio(worlds: pd.DataFrame, shape: str, a: tuple[str, str], b: tuple[str, str], name: str) -> dict[str, Any] | None:
    """Geometric mean over worlds of a's figure over b's, and its interval; None where a or b was not measured, or is 0 somewhere."""
    here = worlds[worlds["shape"] == shape].set_index(["method", "advantage", *WORLD])[name].sort_index()
    if not all((m, adv) in {(i[0], i[1]) for i in here.index} for m, adv in (a, b)):
        return None
    pair = pd.concat([here.loc[a], here.loc[b]], axis=1, keys=["a", "b"]).dropna()
    if not len(pair) or (pair <= ZERO).to_numpy().any():
        return None
    found = st.interval(np.log(pair["a"] / pair["b"]).to_numpy())
    bounds = {k: None if v is None else float(np.exp(v)) for k, v in asdict(found).items() if k != "n"}
    return {**bounds, "n": found.n}


def _riders(table: pd.DataFrame, order: dict[str, int]) -> list[dict[str, Any]]:
    """What is paid to agents whose message changes nothing: the spread of their advantage over that of the last agent, by method.

    Worlds of the family free_riding in which agents follow each other; an ideal credit gives 0.
    """
    here = table[(table.family == "free_riding") & (table["shape"] != "vote")]
    out = []
    for (shape, method, advantage), rows in here.groupby(["shape", "method", "advantage"], sort=False):
        last = rows.turn.max()
        paid = rows[rows.turn < last].groupby("instance").advantage_sd.mean()
        due = rows[rows.turn == last].groupby("instance").advantage_sd.mean()
        share = (paid / due.where(due > ZERO)).dropna()
        if len(share):
            out.append({"shape": shape, "method": method, "advantage": advantage, **asdict(st.interval(share))})
    return sorted(out, key=lambda c: (SHAPES.index(c["shape"]), order[c["method"]]))


# -- published claims ---------------------------------------------------------------------------------------------------------------


def claims(table: pd.DataFrame, worlds: pd.DataFrame) -> list[dict[str, str]]:
    """What the papers claim, whether it holds here, and the numbers that say so. Claims whose methods were not measured are left out."""
    found = [
        _unbiased(table),
        _points_at_truth(table),
        _cheaper("CCPO's counterfactual baseline lowers variance (arXiv 2603.21563v1)", worlds, "dyad", ("ccpo", "group_mean")),
        _cheaper("the paired difference of CCPO v1 lowers variance", worlds, "dyad", ("ccpo_v1", "group_mean")),
        _cheaper("leaving a voter out lowers variance (CCPO, votes)", worlds, "vote", ("ccpo_vote", "group_mean")),
        _cheaper("C3 lowers variance at a matched budget (arXiv 2603.06859)", worlds, "dyad", ("c3", "none")),
        _role_specific(table),
        _free_riding(table),
    ]
    return [c for c in found if c]


def _unbiased(table: pd.DataFrame) -> dict[str, str] | None:
    plain = table[(table.method == "c3") & (table.advantage == "none")]
    if plain.empty:
        return None
    worst, z = plain.bias_raw.max(), table[(table.method == "c3") & (table.advantage == "group_z")].bias
    holds = worst < ZERO
    more = f" With the z-score that its code applies, what is left after the best scale is {z.mean():.3f} on average." if len(z) else ""
    return _claim(
        "C3's leave-one-out advantage is unbiased (arXiv 2603.06859)",
        holds,
        f"Summed over all trees, E[advantage] - A* is at most {worst:.1g} in {len(plain)} turns of {_count(plain)} worlds.{more}",
    )


def _points_at_truth(table: pd.DataFrame) -> dict[str, str] | None:
    """Unbiased as a gradient is weaker than unbiased as an advantage: a baseline that the own message does not move does no harm."""
    here = table[(table.advantage == "group_mean") & (table.norm_ratio > ZERO)]
    if here.empty:
        return None
    least = here.groupby("method", sort=False).cosine.min()
    right, wrong = [m for m in least.index if least[m] > 1 - 1e-9], [m for m in least.index if least[m] <= 1 - 1e-9]
    worst = "; ".join(f"{m} {least[m]:.4f}" for m in wrong)
    return _claim(
        "the expected gradient points where the exact one does",
        not wrong,
        f"Under group_mean the cosine is 1 in every world for {', '.join(right) or 'no method'}"
        + (f"; the least is for {worst}." if wrong else "."),
    )


def _cheaper(claim: str, worlds: pd.DataFrame, shape: str, a: tuple[str, str]) -> dict[str, str] | None:
    """Squared error of a task's gradient at equal generated tokens and at equal evaluator calls, against the shared reward."""
    parts, below = [], []
    for name, budget in (("noise_tokens", "generated tokens"), ("noise_calls", "evaluator calls")):
        row = ratio(worlds, shape, a, REFERENCE, name)
        if row is None or row["ci_high"] is None:
            return None
        parts.append(f"{row['mean']:.2f} times ({row['ci_low']:.2f} to {row['ci_high']:.2f}) at equal {budget}")
        below.append(row["ci_high"] < 1)
    flat, tree = (list(kind.get(shape, ())) for kind in (diagnose.FLAT, diagnose.NESTED))
    drawn = f"fan-out {tree} against {flat}" if a[0].startswith("c3") else f"fan-out {flat}"
    return _claim(
        claim,
        all(below),
        f"Against the shared reward under group_mean the squared error of a task's gradient under {a[0]}, {a[1]} is {' and '.join(parts)} "
        f"({row['n'] if row else 0} worlds of shape {shape}, {drawn}).",
    )


def _role_specific(table: pd.DataFrame) -> dict[str, str] | None:
    here = table[table.advantage == "group_mean"]
    told = here.groupby("method", sort=False).role_information.max()
    if "ccpo" not in told:
        return None
    none = [m for m in told.index if told[m] < ZERO]
    some = [f"{m} {here[here.method == m].role_information.mean():.2f}" for m in told.index if told[m] >= ZERO]
    return _claim(
        "CCPO's credit is specific to the role",
        "ccpo" not in none,
        "Under group_mean the advantage is an image of the shared one in every world for "
        + f"{', '.join(none) or 'no method'}; mean role information of the others: {', '.join(some) or 'there are none'}.",
    )


def _free_riding(table: pd.DataFrame) -> dict[str, str] | None:
    """Against the shared reward under the same advantage, in the same worlds: the spread of a useless agent's advantage over the last's."""
    here = table[(table.family == "free_riding") & (table["shape"] == "dyad") & (table.advantage == "group_mean")]
    paid = here.pivot_table(index="instance", columns=["method", "turn"], values="advantage_sd")
    if ("shared", 0) not in paid or ("ccpo", 0) not in paid:
        return None
    share = {m: paid[m, 0] / paid[m, 1] for m in dict.fromkeys(here.method) if (paid[m, 1] > ZERO).all()}
    parts, lower = [], {}
    for m, values in share.items():
        if m == "shared":
            continue
        row = st.interval((values - share["shared"]).to_numpy())
        lower[m] = row.ci_high is not None and row.ci_high < -ZERO
        parts.append(f"{m} {values.mean():.2f}")
    better = [m for m, ok in lower.items() if ok]
    trees = [m for m in ("c3", "shared_tree") if m in share]
    tree = f" The shared reward on c3's tree has {share['shared_tree'].mean():.2f}." if len(trees) == 2 else ""
    return _claim(
        "counterfactual credit mitigates free-riding (CCPO)",
        lower["ccpo"],
        f"An agent whose message changes nothing should get no advantage. Its spread over the last agent's, dyads under group_mean: shared "
        f"{share['shared'].mean():.2f}; {', '.join(parts)}. Below the shared reward beyond chance: {', '.join(better) or 'none'}.{tree}",
    )


def _count(rows: pd.DataFrame) -> int:
    return len(rows[["shape", *WORLD]].drop_duplicates())


def _claim(text: str, holds: bool, numbers: str) -> dict[str, str]:
    return {"claim": text, "verdict": "holds" if holds else "does not hold", "numbers": numbers}
