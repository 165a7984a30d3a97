"""From the runs of an experiment to its statistics: stats.json, which every figure, table and
sentence is made from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from ccpo import lineage, schema
from ccpo.evaluate import stats as st

GAIN = 0.15  # the gain over the own untrained team that a seed is counted for
TRAINED = ("train", "ledger")  # tables of a run
EVALUATED = ("scores", "graders")  # and of its evaluation by a protocol
POINTS = 40  # of a learning curve


def analyse(*, experiment: Path, runs: Path, stats: Path) -> None:
    """Writes stats.json of an experiment.

    Raises:
        ValueError: a run's table is missing, or of another schema.
    """
    manifest = schema.read_json(experiment)
    conditions = {}
    factual = {}
    protocol = manifest["protocols"][0]
    for label in manifest["order"]:  # as the experiment names them: canonical JSON sorts its keys
        condition = manifest["conditions"][label]
        tables = {
            int(seed): _tables(runs / run, protocol["id"])
            for seed, run in condition["runs"].items()
        }
        bases = {int(seed): name for seed, name in condition["bases"].items()}
        conditions[label] = _condition(condition["config"], protocol, tables, bases)
        factual[label] = {
            s: _answers(t["scores"], conditions[label]["benchmark"]) for s, t in tables.items()
        }
    for label, c in conditions.items():
        if c["gain"]:
            temperatures = {k: v["temperature"] for k, v in c["decodings"].items()}
            best = c["accuracy"][c["benchmark"]][c["gain"]["best"]]["untrained"]["mean"]
            c["gain"]["sentence"] = st.gained(label, c["gain"], best, temperatures, c["primary"])
    first = next(iter(conditions.values()))
    head = {
        k: manifest[k]
        for k in ("experiment", "question", "note", "primary_metric", "token_tolerance")
    }
    made = {
        "scope": st.scope([list(c["bases"].values()) for c in conditions.values()], first["tasks"]),
        "conditions": conditions,
        "comparisons": _comparisons(manifest, factual, conditions),
        "gain_counted": GAIN,
    }
    schema.write_json(stats, {**head, **made})
    lineage.write_passport(stats, [experiment, *inputs(experiment, runs)])


def inputs(experiment: Path, runs: Path) -> list[Path]:
    """The tables that the statistics of an experiment are made from."""
    manifest = schema.read_json(experiment)
    protocol = manifest["protocols"][0]["id"]
    ids = [
        run for condition in manifest["conditions"].values() for run in condition["runs"].values()
    ]
    return [path for run in ids for path in _files(runs / run, protocol).values()]


def _files(run: Path, protocol: str) -> dict[str, Path]:
    """Where the tables lie that statistics are made from, by name."""
    evaluation = run / "eval" / protocol
    return {
        **{name: run / f"{name}.parquet" for name in TRAINED},
        **{name: evaluation / f"{name}.parquet" for name in EVALUATED},
    }


def _tables(run: Path, protocol: str) -> dict[str, pd.DataFrame]:
    return {
        name: schema.read_table(path, name).to_pandas()
        for name, path in _files(run, protocol).items()
    }


Answers = dict[
    str, pd.DataFrame
]  # by decoding: correctness, a row for each task, a column for each sample


def _answers(scores: pd.DataFrame, benchmark: str, intervention: str = "factual") -> Answers:
    rows = scores[(scores.benchmark == benchmark) & (scores.intervention == intervention)]
    return {
        str(name): part.pivot(index="task_id", columns="sample", values="accuracy")
        for name, part in rows.groupby("decoding", sort=False)
    }


def _over_tasks(answers: list[pd.DataFrame]) -> dict[str, float] | None:
    """The interval over tasks of one run with one answer a task; several runs have the better one
    over seeds.
    """
    if (
        len(answers) > 1
        or answers[0].shape[1] > 1
        or not answers[0].isin([0.0, 1.0]).all(axis=None)
    ):
        return None
    right = int(answers[0].to_numpy().sum())
    n = len(answers[0])
    low, high = st.wilson(right, n)
    return {"n": n, "low": low, "high": high}


def _primary(
    config: Mapping[str, Any], protocol: Mapping[str, Any], evaluated: Collection[str]
) -> str:
    """The first benchmark that was evaluated: the one trained on, or where that has no test split
    the first of the protocol's `also`.
    """
    named = [config["benchmark"], *protocol["also"]]
    return next(str(choice["name"]) for choice in named if choice["name"] in evaluated)


def _condition(
    config: dict[str, Any],
    protocol: dict[str, Any],
    tables: dict[int, dict[str, pd.DataFrame]],
    bases: dict[int, str],
) -> dict[str, Any]:
    seeds = sorted(tables)
    evaluated = tables[seeds[0]]["scores"]
    accuracy: dict[str, dict[str, dict[str, Any]]] = {}
    for name, kind in (
        evaluated[["benchmark", "intervention"]].drop_duplicates().itertuples(index=False)
    ):
        answers = {s: _answers(tables[s]["scores"], name, kind) for s in seeds}
        for decoding in answers[seeds[0]]:
            row = _row({s: float(answers[s][decoding].to_numpy().mean()) for s in seeds}, bases)
            row["tasks"] = _over_tasks([answers[s][decoding] for s in seeds])
            accuracy.setdefault(name, {}).setdefault(decoding, {})[kind] = row
    benchmark = _primary(config, protocol, accuracy)
    temperatures = {k: float(v["temperature"]) for k, v in protocol["decodings"].items()}
    primary = protocol["primary"]
    label_of = {k: {"temperature": t, "words": st.decoded(t)} for k, t in temperatures.items()}
    return {
        "team": config["team"]["name"],
        "credit": config["credit"]["name"],
        "model": "+".join(
            m["name"]
            for m in (config["model"] if isinstance(config["model"], list) else [config["model"]])
        ),
        "policy": config["policy"],
        "benchmark": benchmark,
        "tasks": int(evaluated[evaluated.benchmark == benchmark].task_id.nunique()),
        "decodings": label_of,
        "primary": primary,
        "seeds": seeds,
        "bases": {str(s): bases[s] for s in seeds},
        "accuracy": accuracy,
        "nll": _nll(tables, bases, benchmark),
        "gain": _gain(accuracy[benchmark], primary, bases),
        "parts": {
            d: _parts({s: _answers(t["scores"], benchmark)[d] for s, t in tables.items()}, bases)
            for d in temperatures
        },
        "ledger": _ledger(tables),
        "updates": _mean(len(t["train"].step.unique()) for t in tables.values()),
        "curve": _curve(tables, bases),
        "agents": _agents(tables, bases),
        "role_information": _information(tables),
        "leakage": _mean(_leakage(t["scores"])["leakage"] for t in tables.values()),
        "leakage_by_chance": _mean(
            _leakage(t["scores"])["leakage_by_chance"] for t in tables.values()
        ),
        "clean": _clean(tables, bases, primary),
        "late": {
            "training": int(sum(t["train"].late.max() for t in tables.values())),
            "evaluation": int(sum(t["scores"].late.sum() for t in tables.values())),
        },
        "graders": _graders(tables, primary),
    }


def _row(by_seed: dict[int, float], bases: Mapping[int, str]) -> dict[str, Any]:
    """Mean over replicates with its interval, and the value of every seed."""
    return {
        **asdict(st.interval(st.replicates(by_seed, bases))),
        "by_seed": {str(s): v for s, v in by_seed.items()},
    }


def _nll(
    tables: dict[int, dict[str, pd.DataFrame]], bases: Mapping[int, str], benchmark: str
) -> dict[str, dict[str, Any]]:
    """Nats per token of what the team said, by decoding, trained and untrained: minus the log-probs
    under the distribution it was drawn from (greedy: at temperature 1) by the tokens. At
    temperature 1 this estimates the policy's entropy per token.
    """
    by_seed: dict[str, dict[str, dict[int, float]]] = {}
    for seed, t in tables.items():
        rows = t["scores"][
            (t["scores"].benchmark == benchmark)
            & t["scores"].intervention.isin(["factual", "untrained"])
        ]
        sums = rows.groupby(["decoding", "intervention"], sort=False)[["logprob", "n_tokens"]].sum()
        for (decoding, kind), row in sums.iterrows():
            value = max(0.0, -row.logprob / max(row.n_tokens, 1))
            by_seed.setdefault(decoding, {}).setdefault(kind, {})[seed] = float(value)
    return {
        d: {kind: _row(values, bases) for kind, values in kinds.items()}
        for d, kinds in by_seed.items()
    }


def _gain(
    accuracy: dict[str, dict[str, Any]], primary: str, bases: Mapping[int, str]
) -> dict[str, Any] | None:
    """What training added to the untrained team, and what lowering the temperature alone adds to
    it; None where it was not played.

    by_decoding: trained minus untrained under each decoding. best: the decoding at which the
    untrained team is most often right (chosen by its mean, which flatters the untrained team).
    beyond: the trained team under the primary decoding minus the untrained
    one at its best: what no choice of temperature gives.
    """
    if "untrained" not in accuracy[primary]:
        return None

    def minus(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
        return _row({int(s): a["by_seed"][s] - b["by_seed"][s] for s in a["by_seed"]}, bases)

    best = max(accuracy, key=lambda name: accuracy[name]["untrained"]["mean"])
    gains = {name: minus(kinds["factual"], kinds["untrained"]) for name, kinds in accuracy.items()}
    beyond = minus(accuracy[primary]["factual"], accuracy[best]["untrained"])
    for gain in gains.values():
        gain["apart"] = minus(gain, beyond)
    counted = sum(points >= GAIN for points in beyond["by_seed"].values())
    return {"by_decoding": gains, "best": best, "beyond": beyond, "seeds_counted": counted}


def _parts(answers: dict[int, pd.DataFrame], bases: Mapping[int, str]) -> dict[str, float | None]:
    """Standard deviations of a final accuracy (or of a difference) by their source."""
    means = {s: float(frame.to_numpy().mean()) for s, frame in answers.items()}
    return st.sources(means, bases, [frame.to_numpy() for frame in answers.values()])


def _mean(values: Any) -> float:
    values = list(values)
    return float(sum(values) / len(values))


def _leakage(scores: pd.DataFrame) -> pd.Series:
    """The share of factual episodes whose thoughts hold the truth, and that of another task."""
    factual = scores[scores.intervention == "factual"]
    return factual[["leakage", "leakage_by_chance"]].mean()


def _clean(
    tables: dict[int, dict[str, pd.DataFrame]], bases: Mapping[int, str], primary: str
) -> dict[str, Any]:
    """Factual accuracy by benchmark on the items about which nothing is known to be wrong, and how
    many have a known defect.
    """
    factual = {
        s: t["scores"][(t["scores"].intervention == "factual") & (t["scores"].decoding == primary)]
        for s, t in tables.items()
    }
    first = next(iter(factual.values()))
    out = {}
    for name, rows in first.groupby("benchmark", sort=False):
        if rows.defect.all():
            continue
        means = {
            s: float(f[(f.benchmark == name) & ~f.defect].accuracy.mean())
            for s, f in factual.items()
        }
        defects = int(rows[rows.defect].task_id.nunique())
        out[str(name)] = {"defects": defects, **_row(means, bases)}
    return out


def _graders(tables: dict[int, dict[str, pd.DataFrame]], primary: str) -> dict[str, Any]:
    """Accuracy of the same factual answers under our verifier and under the papers' graders, by
    benchmark: means over seeds.
    """
    frame = pd.concat(t["graders"].assign(seed=s) for s, t in tables.items())
    frame = frame[frame.decoding == primary]
    kinds = ["accuracy", "c3", "ccpo"]
    by_seed = frame.groupby(["benchmark", "seed"])[kinds].mean()
    return {
        str(name): {k: float(rows[k].mean()) for k in kinds}
        for name, rows in by_seed.groupby("benchmark")
    }


def _ledger(tables: dict[int, dict[str, pd.DataFrame]]) -> dict[str, Any]:
    """Counts of training: mean over seeds, in all and by (agent, purpose)."""
    counts = ["prompt_tokens", "generated_tokens", "trained_tokens", "evaluator_calls"]
    frame = pd.concat(t["ledger"].assign(seed=s) for s, t in tables.items())
    total = frame.groupby("seed")[counts].sum().mean() if len(frame) else pd.Series(0.0, counts)
    parts = frame.groupby(["agent", "purpose"])[counts].sum() / len(tables)
    rows = [
        {"agent": int(a), "purpose": p, **{c: float(r[c]) for c in counts}}
        for (a, p), r in parts.iterrows()
    ]
    return {**{c: float(total[c]) for c in counts}, "parts": rows}


def _curve(
    tables: dict[int, dict[str, pd.DataFrame]], bases: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Team reward by update, averaged over windows of updates, with t-intervals over the replicates
    that got that far together.
    """
    last = {
        s: t["train"][t["train"].agent == t["train"].agent.max()].sort_values("step")
        for s, t in tables.items()
    }
    steps = min(len(rows) for rows in last.values())
    width = max(1, steps // POINTS)
    out = []
    for start in range(0, steps - width + 1, width):
        windows = {s: rows.iloc[start : start + width] for s, rows in last.items()}
        mean = asdict(
            st.interval(
                st.replicates({s: float(w.reward.mean()) for s, w in windows.items()}, bases)
            )
        )
        out.append(
            {
                "step": start + width,
                "tokens": _mean(w.generated_tokens.max() for w in windows.values()),
                **mean,
            }
        )
    return out


def _agents(
    tables: dict[int, dict[str, pd.DataFrame]], bases: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Reward, credit and leakage of each agent's messages: first and last fifth of the updates,
    intervals over replicates.
    """
    out = []
    for agent in sorted(next(iter(tables.values()))["train"].agent.unique()):
        for part in ("first", "last"):
            means = {}
            for seed, t in tables.items():
                own = t["train"][t["train"].agent == agent].sort_values("step")
                n = max(1, len(own) // 5)
                means[seed] = (own.head(n) if part == "first" else own.tail(n))[
                    ["reward", "credit", "leakage"]
                ].mean()
            for quantity in ("reward", "credit", "leakage"):
                found = st.interval(
                    st.replicates({s: float(m[quantity]) for s, m in means.items()}, bases)
                )
                out.append(
                    {"agent": int(agent), "part": part, "quantity": quantity, **asdict(found)}
                )
    return out


def _information(tables: dict[int, dict[str, pd.DataFrame]]) -> list[dict[str, Any]]:
    """Role information by update and agent, over the seeds."""
    frame = pd.concat(t["train"] for t in tables.values())
    grouped = (
        frame.groupby(["agent", "step"])
        .role_information.agg(["mean", "max", "count"])
        .reset_index()
    )
    full = grouped[grouped["count"] == len(tables)]
    return [
        {"agent": int(a), "step": int(s), "mean": float(m), "max": float(x)}
        for a, s, m, x in zip(full["agent"], full["step"], full["mean"], full["max"], strict=True)
    ]


def _comparisons(
    manifest: dict[str, Any], factual: dict[str, dict[int, Answers]], conditions: dict[str, Any]
) -> list[dict[str, Any]]:
    """The declared family under the primary decoding: paired differences with Holm's adjustment,
    and whether the tokens match; beside each the same difference under every decoding that both
    conditions have, unadjusted.
    """
    rows: list[dict[str, Any]] = []
    for a, b in manifest["compare"]:
        bases = {
            s: f"{conditions[a]['bases'][str(s)]}, {conditions[b]['bases'][str(s)]}"
            for s in set(factual[a]) & set(factual[b])
        }
        names = [d for d in conditions[a]["decodings"] if d in conditions[b]["decodings"]]
        each = {
            d: _difference(
                {s: t[d] for s, t in factual[a].items()},
                {s: t[d] for s, t in factual[b].items()},
                bases,
            )
            for d in names
        }
        primary = each[conditions[a]["primary"]]
        apart = {d: _apart(row, primary, bases) for d, row in each.items()}
        decodings = {d: {**row, "apart": apart[d]} for d, row in each.items()}
        rows.append(
            {
                "a": a,
                "b": b,
                "decoding": conditions[a]["primary"],
                **primary,
                "decodings": decodings,
            }
        )
    for row, p in zip(rows, st.holm([r["p"] for r in rows]), strict=True):
        row["p_holm"] = p
        row["detectable"] = st.detectable(row["sd"], row["n"], len(rows))
        temperatures = {k: v["temperature"] for k, v in conditions[row["a"]]["decodings"].items()}
        row["sentence"] = st.claim(
            row["a"], row["b"], row, len(rows), temperatures[row["decoding"]]
        )
        row["elsewhere"] = st.elsewhere(row["decodings"], row["decoding"], temperatures)
        row |= _matched(row["a"], row["b"], conditions, manifest["token_tolerance"])
    return rows


def _apart(
    row: Mapping[str, Any], primary: Mapping[str, Any], bases: Mapping[int, str]
) -> dict[str, Any]:
    """How far a difference under one decoding is from the same difference under the primary one,
    paired by seed.
    """
    mine, theirs = (dict(zip(r["seeds"], r["differences"], strict=True)) for r in (row, primary))
    return asdict(st.interval(st.replicates({s: mine[s] - theirs[s] for s in mine}, bases)))


def _difference(
    a: dict[int, pd.DataFrame], b: dict[int, pd.DataFrame], bases: Mapping[int, str]
) -> dict[str, Any]:
    """A paired difference over the seeds that both have, and where its spread comes from."""
    mine, theirs = (
        {s: float(frame.to_numpy().mean()) for s, frame in side.items()} for side in (a, b)
    )
    row = st.compare(mine, theirs, bases)
    both = [
        s
        for s in sorted(set(a) & set(b))
        if a[s].shape == b[s].shape and a[s].index.equals(b[s].index)
    ]
    return (
        {**row, "parts": _parts({s: a[s] - b[s] for s in both}, bases)}
        if both
        else {**row, "parts": None}
    )


def _matched(a: str, b: str, conditions: dict[str, Any], tolerance: float) -> dict[str, Any]:
    x, y = (conditions[c]["ledger"]["generated_tokens"] for c in (a, b))
    apart = abs(x - y) / max(x, y, 1)
    verdict = (
        f"{a} generated {x:,.0f} tokens in training, {b} {y:,.0f}: {100 * apart:.1f} % "
        f"apart, tolerance {100 * tolerance:.0f} %"
    )
    return {"matched": bool(apart <= tolerance), "tokens": verdict}
