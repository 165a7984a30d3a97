"""From the diagnostics of an oracle experiment to its statistics: stats.json, with a sentence for
each published claim.

The replication unit is the world: an instance of a family. Methods are compared in the same worlds,
so that differences are paired; ratios are averaged as logarithms.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats

from ccpo import lineage, manifest, schema
from ccpo.evaluate import stats as st
from ccpo.oracle import diagnose
from ccpo.publish.statistics import (
    Cell,
    FreeRiding,
    Interval,
    OracleStatistics,
    PublishedClaim,
    Sampled,
    Skipped,
)

FIGURES = (
    "bias",
    "bias_raw",
    "variance",
    "mse_tokens",
    "mse_calls",
    "spearman",
    "cosine",
    "batch_cosine",
    "team_cosine",
    "outcome_correlation",
    "noise_tokens",
    "noise_calls",
    "role_information",
    "tokens",
    "evaluator_calls",
)
# Compared with the reference, in the same world.
RATIOS = ("variance", "mse_tokens", "mse_calls", "noise_tokens", "noise_calls")
REFERENCE = ("shared", "group_mean")
ZERO = 1e-9
SHAPES = list(diagnose.TEAMS)
WORLD = ["family", "instance"]
ALL = "all"  # families together
LIMIT = 4.0  # standard errors
Pair = tuple[str, str]  # method, advantage


def compare(*, experiment: Path, diagnostics: list[Path], stats: Path) -> None:
    """Writes stats.json of an oracle experiment.

    Raises:
        ValueError: a table is missing or of another schema.
    """
    beside = [p for p in (d.with_suffix(".skipped.json") for d in diagnostics) if p.is_file()]
    begun = lineage.begin([experiment, *diagnostics, *beside])
    numbers(experiment, diagnostics).write(stats)
    lineage.write_passport(stats, begun)


def numbers(experiment: Path, diagnostics: list[Path]) -> OracleStatistics:
    """Statistics of an oracle experiment from its tables. ValueError as `compare`."""
    planned = manifest.read_oracle(experiment)
    table = pd.concat(
        [schema.read_table(path, "diagnostics").to_pandas() for path in diagnostics],
        ignore_index=True,
    )
    order = {method.label: i for i, method in enumerate(planned.methods)}
    over_turns = table.groupby(["shape", *WORLD, "method", "advantage"], as_index=False)
    worlds = over_turns[list(FIGURES)].mean()
    pivots = {
        name: worlds.pivot(index=["shape", *WORLD], columns=["method", "advantage"], values=name)
        for name in RATIOS
    }
    judged = claims(table, pivots)
    cells = _cells(worlds, pivots, order)
    return OracleStatistics(
        experiment=planned.experiment,
        question=planned.question,
        note=planned.note,
        shapes=planned.shapes,
        families=planned.families,
        instances=planned.instances,
        tokens=planned.tokens,
        reference=REFERENCE,
        summary=summary(judged, cells),
        sampled=sampled(table),
        cells=tuple(cells),
        free_riding=tuple(_free_riders(table, order)),
        claims=tuple(judged),
        skipped=_skipped(diagnostics),
    )


def _skipped(diagnostics: list[Path]) -> tuple[Skipped, ...]:
    """What lies beside the tables, each once."""
    rows = [
        row for path in diagnostics for row in schema.read_json(path.with_suffix(".skipped.json"))
    ]
    omissions = sorted({(row["method"], row["shape"], row["reason"]) for row in rows})
    return tuple(Skipped(method=m, shape=shape, reason=why) for m, shape, why in omissions)


def _cells(
    worlds: pd.DataFrame, pivots: dict[str, pd.DataFrame], order: dict[str, int]
) -> list[Cell]:
    """Each figure's mean and t-interval over worlds by family, shape, method and advantage, and the
    ratios to the reference; all families together first.
    """
    out = []
    both = pd.concat([worlds.assign(within=ALL), worlds.assign(within=worlds.family)])
    for (family, shape, method, advantage), rows in both.groupby(
        ["within", "shape", "method", "advantage"], sort=False
    ):
        where = (str(shape), str(family))
        means = {name: st.interval(rows[name]) for name in FIGURES}
        ratios = {
            f"{name}_ratio": ratio(pivots[name], where, (str(method), str(advantage)), REFERENCE)
            for name in RATIOS
        }
        head = {"family": family, "shape": shape, "method": method, "advantage": advantage}
        out.append(Cell.model_validate({**head, "worlds": len(rows), **means, **ratios}))
    return sorted(
        out,
        key=lambda c: (c.family != ALL, c.family, SHAPES.index(c.shape), order[c.method]),
    )


def ratio(pivot: pd.DataFrame, where: tuple[str, str], a: Pair, b: Pair) -> Interval | None:
    """Geometric mean over worlds of a's figure over b's, and its interval; None where a or b was
    not measured, or is 0 somewhere.

    `pivot`: the figure by world (rows: shape, family, instance) and by method and advantage
    (columns); `where`: shape, and family or ALL.
    """
    shape, family = where
    if a not in pivot or b not in pivot or shape not in pivot.index.get_level_values("shape"):
        return None
    worlds = pivot.xs(shape, level="shape")
    worlds = worlds if family == ALL else worlds.xs(family, level="family")
    pair = np.stack([worlds[a], worlds[b]])
    pair = pair[:, np.isfinite(pair).all(0)]
    if not pair.size or (pair <= ZERO).any():
        return None
    return _geometric(pair[0] / pair[1])


def _geometric(ratios: np.ndarray) -> Interval:
    """The interval of the logarithms, as ratios again."""
    row = st.interval(np.log(ratios))
    low = None if row.ci_low is None else float(np.exp(row.ci_low))
    high = None if row.ci_high is None else float(np.exp(row.ci_high))
    return Interval(mean=float(np.exp(row.mean)), ci_low=low, ci_high=high, n=row.n)


def sampled(table: pd.DataFrame) -> Sampled:
    """How far means over drawn trees were from their summed expectations, in standard errors, for
    all and for what is biased.
    """
    biased = table[table.bias_raw > 0.01]
    comparisons = int(table.sampled_cells.sum())
    return Sampled(
        trees=diagnose.TREES,
        comparisons=comparisons,
        groups=len(table),
        worst=float(table.sampled_worst.max()),
        beyond=int((table.sampled_worst > LIMIT).sum()),
        by_chance=float(comparisons * 2 * scipy.stats.norm.sf(LIMIT)),
        biased=len(biased),
        biased_worst=float(biased.sampled_worst.max()) if len(biased) else 0.0,
    )


def summary(judged: list[PublishedClaim], cells: list[Cell]) -> str:
    """One paragraph: which claims hold, and what points best at equal tokens."""
    words = {"holds": "hold", "holds in part": "hold in part", "does not hold": "do not hold"}
    parts = []
    for verdict, word in words.items():
        texts = [c.claim for c in judged if c.verdict == verdict]
        parts.append(f"{len(texts)} {word}" + (f" ({'; '.join(texts)})" if texts else ""))
    best = []
    for shape in dict.fromkeys(c.shape for c in cells):
        errors = [
            (c.noise_tokens_ratio, c)
            for c in cells
            if c.shape == shape and c.family == ALL and c.noise_tokens_ratio
        ]
        if errors:
            error, least = min(errors, key=lambda pair: pair[0].mean)
            best.append(f"{shape}: {least.method} under {least.advantage}, {band(error)}")
    return (
        f"Of {len(judged)} claims, {', '.join(parts)}. Least squared error of the gradient at "
        "equal generated tokens, as a multiple of the shared reward's under group_mean, with 95 % "
        f"intervals over worlds: {'; '.join(best)}."
    )


def band(row: Interval) -> str:
    """A mean and its interval."""
    if row.ci_low is None:
        return f"{row.mean:.2f}"
    return f"{row.mean:.2f} ({row.ci_low:.2f} to {row.ci_high:.2f})"


def _free_riders(table: pd.DataFrame, order: dict[str, int]) -> list[FreeRiding]:
    """What is paid to agents whose message changes nothing: the spread of their advantage over that
    of the last agent, by method.

    Worlds of the family free_riding in which agents follow each other; an ideal credit gives 0.
    """
    sequential = table[(table.family == "free_riding") & (table["shape"] != "vote")]
    out = []
    for (shape, method, advantage), rows in sequential.groupby(
        ["shape", "method", "advantage"], sort=False
    ):
        last = rows.turn.max()
        paid = rows[rows.turn < last].groupby("instance").advantage_sd.mean()
        due = rows[rows.turn == last].groupby("instance").advantage_sd.mean()
        share = (paid / due.where(due > ZERO)).dropna()
        if len(share):
            head = {"shape": shape, "method": method, "advantage": advantage}
            out.append(FreeRiding.model_validate({**head, **dict(st.interval(share))}))
    return sorted(out, key=lambda c: (SHAPES.index(c.shape), order[c.method]))


# -- published claims


def claims(table: pd.DataFrame, pivots: dict[str, pd.DataFrame]) -> list[PublishedClaim]:
    """What the papers claim, whether it holds here, and the numbers that say so. Claims whose
    methods were not measured are left out.
    """
    judged = [_unbiased(table), _points_at_truth(table), _difference(table)]
    judged += [_cheaper(text, pivots, *measured) for text, measured in CHEAPER.items()]
    judged += [_role_specific(table), _free_riding(table)]
    return [claim for claim in judged if claim]


DYADS = ("dyad", "language")
# Claims of lower variance: in which shapes, by which method under which advantage.
CHEAPER: dict[str, tuple[tuple[str, ...], Pair]] = {
    "CCPO's counterfactual baseline lowers variance (arXiv 2603.21563v1)": (
        DYADS,
        ("ccpo", "group_mean"),
    ),
    "the paired difference of CCPO v1 lowers variance": (DYADS, ("ccpo_v1", "group_mean")),
    "leaving a voter out lowers variance (CCPO, votes)": (("vote",), ("ccpo_vote", "group_mean")),
    "C3 lowers variance at a matched budget (arXiv 2603.06859)": (
        (*DYADS, "chain"),
        ("c3", "none"),
    ),
    "raters' shares lower variance (SEPO, arXiv 2603.21563v5)": (DYADS, ("sepo", "group_mean")),
}


def _unbiased(table: pd.DataFrame) -> PublishedClaim | None:
    plain = table[(table.method == "c3") & (table.advantage == "none")]
    if plain.empty:
        return None
    worst = plain.bias_raw.max()
    z = table[(table.method == "c3") & (table.advantage == "group_z")].bias
    holds = worst < ZERO
    more = (
        " With the z-score that its code applies, what is left after the best scale is "
        f"{z.mean():.3f} on average."
        if len(z)
        else ""
    )
    return _claim(
        "C3's leave-one-out advantage is unbiased (arXiv 2603.06859)",
        holds,
        f"Summed over all trees, E[advantage] - A* is at most {worst:.1g} in {len(plain)} turns "
        f"of {_count(plain)} worlds.{more}",
    )


def _points_at_truth(table: pd.DataFrame) -> PublishedClaim | None:
    """Unbiased as a gradient is weaker than unbiased as an advantage: a baseline that the own
    message does not move does no harm.
    """
    centred = table[(table.advantage == "group_mean") & (table.norm_ratio > ZERO)]
    if centred.empty:
        return None
    least = centred.groupby("method", sort=False).cosine.min()
    right = [m for m in least.index if least[m] > 1 - 1e-9]
    wrong = [m for m in least.index if least[m] <= 1 - 1e-9]
    worst = "; ".join(f"{m} {least[m]:.4f}" for m in wrong)
    return _claim(
        "every method's expected gradient points where the exact one does",
        not wrong,
        f"Under group_mean the cosine is 1 in every world for {', '.join(right) or 'no method'}"
        + (f"; the least is for {worst}." if wrong else "."),
    )


def _difference(table: pd.DataFrame) -> PublishedClaim | None:
    """The raw credit of the first agent, before any baseline: half the difference to a solo sample
    against the outcome's sign.
    """
    raw = table[table["shape"].isin(DYADS) & (table.turn == 0) & (table.advantage == "none")]
    by_world = raw.pivot_table(index=["shape", *WORLD], columns="method", values="variance")
    if not {"shared", "ccpo_v1_split"} <= set(by_world):
        return None
    known = by_world[["shared", "ccpo_v1_split"]].dropna()
    known = known[(known > ZERO).all(axis=1)]
    row = _geometric((known["ccpo_v1_split"] / known["shared"]).to_numpy())
    return _claim(
        "subtracting the outcome without the agent lowers the variance of its credit (theorem of "
        "CCPO v1)",
        row.ci_high is not None and row.ci_high < 1,
        f"Its variance around its own mean in each context, scale taken out, is {band(row)} "
        "times that of the plain outcome "
        f"({row.n} worlds): the solo sample does not depend on the thought, so that its "
        "variance is added.",
    )


def _cheaper(
    claim: str, pivots: dict[str, pd.DataFrame], shapes: tuple[str, ...], a: Pair
) -> PublishedClaim | None:
    """Variance of the advantage, and squared error of a task's gradient at equal generated tokens
    and evaluator calls, against the shared reward. The claim holds where all three are below 1 with
    their intervals, in every shape.
    """
    parts = []
    below = []
    for shape in shapes:
        rows = {
            name: ratio(pivots[name], (shape, ALL), a, REFERENCE)
            for name in ("variance", "noise_tokens", "noise_calls")
        }
        flat, tree = (list(kind.get(shape, ())) for kind in (diagnose.FLAT, diagnose.NESTED))
        drawn = f"fan-out {tree} against {flat}" if a[0].startswith("c3") else f"fan-out {flat}"
        known = {
            name: row for name, row in rows.items() if row is not None and row.ci_high is not None
        }
        if len(known) < len(rows):
            continue
        below += [row.ci_high is not None and row.ci_high < 1 for row in known.values()]
        parts.append(
            f"{shape} ({known['variance'].n} worlds, {drawn}): {band(known['variance'])}, "
            f"{band(known['noise_tokens'])} and "
            f"{band(known['noise_calls'])}"
        )
    if not parts:
        return None
    return _claim(
        claim,
        all(below) if all(below) or not any(below) else None,
        f"{a[0]} under {a[1]} as a multiple of the shared reward under group_mean, with 95 % "
        "intervals: variance of an advantage, squared "
        "error of the gradient at equal generated tokens, and at equal evaluator calls. "
        f"{'; '.join(parts)}.",
    )


def _role_specific(table: pd.DataFrame) -> PublishedClaim | None:
    centred = table[table.advantage == "group_mean"]
    by_method = centred.groupby("method", sort=False).role_information
    most = by_method.max()
    if "ccpo" not in most:
        return None
    mean = by_method.mean()
    images = [m for m in most.index if most[m] < ZERO]
    others = [f"{m} {mean[m]:.2f}" for m in most.index if most[m] >= ZERO]
    return _claim(
        "CCPO's credit is specific to the role",
        "ccpo" not in images,
        "Under group_mean the advantage is an image of the shared one in every world for "
        f"{', '.join(images) or 'no method'}; mean role information of the others: "
        f"{', '.join(others) or 'there are none'}.",
    )


def _free_riding(table: pd.DataFrame) -> PublishedClaim | None:
    """Against the shared reward under the same advantage, in the same worlds: the spread of a
    useless agent's advantage over the last's.
    """
    dyads = table[
        (table.family == "free_riding")
        & (table["shape"] == "dyad")
        & (table.advantage == "group_mean")
    ]
    paid = dyads.pivot_table(index="instance", columns=["method", "turn"], values="advantage_sd")
    if ("shared", 0) not in paid or ("ccpo", 0) not in paid:
        return None
    share = {
        m: paid[m, 0] / paid[m, 1] for m in dict.fromkeys(dyads.method) if (paid[m, 1] > ZERO).all()
    }
    parts = []
    lower = {}
    for m, values in share.items():
        if m == "shared":
            continue
        row = st.interval((values - share["shared"]).to_numpy())
        lower[m] = row.ci_high is not None and row.ci_high < -ZERO
        parts.append(f"{m} {values.mean():.2f}")
    better = [m for m, ok in lower.items() if ok]
    trees = [m for m in ("c3", "shared_tree") if m in share]
    tree = (
        f" The shared reward on c3's tree has {share['shared_tree'].mean():.2f}."
        if len(trees) == 2
        else ""
    )
    return _claim(
        "counterfactual credit mitigates free-riding (CCPO)",
        lower["ccpo"],
        "An agent whose message changes nothing should get no advantage. Its spread over the "
        "last agent's, dyads under group_mean: shared "
        f"{share['shared'].mean():.2f}; {', '.join(parts)}. Below the shared reward beyond "
        f"chance: {', '.join(better) or 'none'}.{tree}"
        f"{_paid_by_luck(dyads)}",
    )


def _paid_by_luck(table: pd.DataFrame) -> str:
    """What is left of a useless message's advantage: nothing on average, and how it goes with the
    outcome.
    """
    first = table[table.turn == 0]
    mean = float(first.bias_raw.max())  # A* is 0 there
    by = [
        f"{m} {band(st.interval(rows.outcome_correlation))}"
        for m, rows in first.groupby("method", sort=False)
        if m in ("shared", "ccpo", "ccpo_v1", "c3")
    ]
    return (
        f" The largest mean advantage of a useless message is {mean:.1g}, so nothing is taught "
        "on average; but its correlation with "
        f"the outcome that others earned is {'; '.join(by)}."
    )


def _count(rows: pd.DataFrame) -> int:
    return len(rows[["shape", *WORLD]].drop_duplicates())


def _claim(text: str, holds: bool | None, numbers: str) -> PublishedClaim:
    """`holds` None: some of its numbers are for it, others are not."""
    verdict = "holds in part" if holds is None else "holds" if holds else "does not hold"
    return PublishedClaim(claim=text, verdict=verdict, numbers=numbers)
