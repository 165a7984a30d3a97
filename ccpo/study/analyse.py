"""From the runs of an experiment to its statistics: stats.json, which every figure, table and sentence is made from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from ccpo import schema
from ccpo.study import stats as st

GAIN = 0.15  # the gain over the own untrained team that a seed is counted for
USED = ("train", "ledger", "scores", "graders")  # tables of a run
POINTS = 40  # of a learning curve


def analyse(*, experiment: Path, runs: Path, stats: Path) -> None:
    """Writes stats.json of an experiment.

    Raises:
        ValueError: a run's table is missing, or of another schema.
    """
    manifest = schema.read_json(experiment)
    conditions, factual = {}, {}
    for label in manifest["order"]:  # as the experiment names them: canonical JSON sorts its keys
        condition = manifest["conditions"][label]
        tables = {int(seed): _tables(runs / run) for seed, run in condition["runs"].items()}
        conditions[label] = _condition(condition["config"], tables)
        first = conditions[label]["benchmark"]
        factual[label] = {s: _accuracy(t["scores"], first, "factual") for s, t in tables.items()}
    head = {k: manifest[k] for k in ("experiment", "question", "note", "primary_metric", "token_tolerance")}
    comparisons = _comparisons(manifest, factual, conditions)
    schema.write_json(stats, {**head, "conditions": conditions, "comparisons": comparisons, "gain_counted": GAIN})


def inputs(experiment: Path, runs: Path) -> list[Path]:
    """The tables that the statistics of an experiment are made from."""
    ids = [run for condition in schema.read_json(experiment)["conditions"].values() for run in condition["runs"].values()]
    return [runs / run / f"{name}.parquet" for run in ids for name in USED]


def _tables(run: Path) -> dict[str, pd.DataFrame]:
    return {name: schema.read_table(run / f"{name}.parquet", name).to_pandas() for name in USED}


def _accuracy(scores: pd.DataFrame, benchmark: str, intervention: str) -> float:
    rows = scores[(scores.benchmark == benchmark) & (scores.intervention == intervention)]
    return float(rows.accuracy.mean())


def _over_tasks(scores: list[pd.DataFrame], benchmark: str, intervention: str) -> dict[str, float] | None:
    """The interval over tasks of one run with one answer a task; several runs have the better one over seeds."""
    if len(scores) > 1:
        return None
    rows = scores[0][(scores[0].benchmark == benchmark) & (scores[0].intervention == intervention)]
    if rows["sample"].max() > 0 or not rows.accuracy.isin([0.0, 1.0]).all():
        return None
    low, high = st.wilson(int(rows.accuracy.sum()), len(rows))
    return {"n": len(rows), "low": low, "high": high}


def _primary(config: Mapping[str, Any], evaluated: Collection[str]) -> str:
    """The first benchmark that was evaluated: the one trained on, or where that has no test split the first of `evaluate.also`."""
    named = [config["benchmark"], *config.get("evaluate", {}).get("also", [])]
    return next(str(choice["name"]) for choice in named if choice["name"] in evaluated)


def _condition(config: dict[str, Any], tables: dict[int, dict[str, pd.DataFrame]]) -> dict[str, Any]:
    seeds = sorted(tables)
    kinds = tables[seeds[0]]["scores"][["benchmark", "intervention"]].drop_duplicates().itertuples(index=False)
    accuracy: dict[str, dict[str, Any]] = {}
    for name, kind in kinds:
        by_seed = {s: _accuracy(tables[s]["scores"], name, kind) for s in seeds}
        mean = asdict(st.interval(list(by_seed.values())))
        accuracy.setdefault(name, {})[kind] = {
            **mean,
            "by_seed": {str(s): v for s, v in by_seed.items()},
            "tasks": _over_tasks([t["scores"] for t in tables.values()], name, kind),
        }
    primary = _primary(config, accuracy)
    first = accuracy[primary]
    out = {
        "team": config["team"]["name"],
        "credit": config["credit"]["name"],
        "model": "+".join(m["name"] for m in (config["model"] if isinstance(config["model"], list) else [config["model"]])),
        "policy": config["policy"],
        "benchmark": primary,
        "seeds": seeds,
        "accuracy": accuracy,
        "ledger": _ledger(tables),
        "updates": _mean(len(t["train"].step.unique()) for t in tables.values()),
        "curve": _curve(tables),
        "agents": _agents(tables),
        "role_information": _information(tables),
        "leakage": _mean(_leakage(t["scores"]) for t in tables.values()),
        "graders": _graders(tables),
    }
    if "untrained" in first:
        gains = [first["factual"]["by_seed"][str(s)] - first["untrained"]["by_seed"][str(s)] for s in seeds]
        out["gain"] = {
            **asdict(st.interval(gains)),
            "by_seed": gains,
            "seeds_counted": sum(g >= GAIN for g in gains),
        }
    return out


def _mean(values: Any) -> float:
    values = list(values)
    return float(sum(values) / len(values))


def _leakage(scores: pd.DataFrame) -> float:
    return float(scores[scores.intervention == "factual"].leakage.mean())


def _graders(tables: dict[int, dict[str, pd.DataFrame]]) -> dict[str, Any]:
    """Accuracy of the same factual answers under our verifier and under the papers' graders, by benchmark: means over seeds."""
    frame = pd.concat(t["graders"].assign(seed=s) for s, t in tables.items())
    kinds = ["accuracy", "c3", "ccpo"]
    by_seed = frame.groupby(["benchmark", "seed"])[kinds].mean()
    return {str(name): {k: float(rows[k].mean()) for k in kinds} for name, rows in by_seed.groupby("benchmark")}


def _ledger(tables: dict[int, dict[str, pd.DataFrame]]) -> dict[str, Any]:
    """Counts of training: mean over seeds, in all and by (agent, purpose)."""
    counts = ["prompt_tokens", "generated_tokens", "trained_tokens", "evaluator_calls"]
    frame = pd.concat(t["ledger"].assign(seed=s) for s, t in tables.items())
    total = frame.groupby("seed")[counts].sum().mean() if len(frame) else pd.Series(0.0, counts)
    parts = frame.groupby(["agent", "purpose"])[counts].sum() / len(tables)
    rows = [{"agent": int(a), "purpose": p, **{c: float(r[c]) for c in counts}} for (a, p), r in parts.iterrows()]
    return {**{c: float(total[c]) for c in counts}, "parts": rows}


def _curve(tables: dict[int, dict[str, pd.DataFrame]]) -> list[dict[str, Any]]:
    """Team reward by update, averaged over windows of updates, with t-intervals over the seeds that got that far together."""
    last = {s: t["train"][t["train"].agent == t["train"].agent.max()].sort_values("step") for s, t in tables.items()}
    steps = min(len(rows) for rows in last.values())
    width = max(1, steps // POINTS)
    out = []
    for start in range(0, steps - width + 1, width):
        windows = [rows.iloc[start : start + width] for rows in last.values()]
        mean = asdict(st.interval([w.reward.mean() for w in windows]))
        out.append({"step": start + width, "tokens": _mean(w.generated_tokens.max() for w in windows), **mean})
    return out


def _agents(tables: dict[int, dict[str, pd.DataFrame]]) -> list[dict[str, Any]]:
    """Reward, credit and leakage of each agent's messages: first and last fifth of the updates, intervals over seeds."""
    out = []
    for agent in sorted(next(iter(tables.values()))["train"].agent.unique()):
        for part in ("first", "last"):
            rows = []
            for t in tables.values():
                mine = t["train"][t["train"].agent == agent].sort_values("step")
                n = max(1, len(mine) // 5)
                rows.append((mine.head(n) if part == "first" else mine.tail(n))[["reward", "credit", "leakage"]].mean())
            for quantity in ("reward", "credit", "leakage"):
                out.append(
                    {
                        "agent": int(agent),
                        "part": part,
                        "quantity": quantity,
                        **asdict(st.interval([float(r[quantity]) for r in rows])),
                    }
                )
    return out


def _information(tables: dict[int, dict[str, pd.DataFrame]]) -> list[dict[str, Any]]:
    """Role information by update and agent, over the seeds."""
    frame = pd.concat(t["train"] for t in tables.values())
    grouped = frame.groupby(["agent", "step"]).role_information.agg(["mean", "max", "count"]).reset_index()
    full = grouped[grouped["count"] == len(tables)]
    return [
        {"agent": int(a), "step": int(s), "mean": float(m), "max": float(x)}
        for a, s, m, x in zip(full["agent"], full["step"], full["mean"], full["max"], strict=True)
    ]


def _comparisons(manifest: dict[str, Any], factual: dict[str, dict[int, float]], conditions: dict[str, Any]) -> list[dict[str, Any]]:
    """The declared family: paired differences with Holm's adjustment, and whether the tokens match."""
    rows: list[dict[str, Any]] = [{"a": a, "b": b, **st.compare(factual[a], factual[b])} for a, b in manifest["compare"]]
    for row, p in zip(rows, st.holm([r["p"] for r in rows]), strict=True):
        row["p_holm"] = p
        row["detectable"] = st.detectable(row["sd"], row["n"], len(rows))
        row["sentence"] = st.claim(row["a"], row["b"], row, len(rows))
        row |= _matched(row["a"], row["b"], conditions, manifest["token_tolerance"])
    return rows


def _matched(a: str, b: str, conditions: dict[str, Any], tolerance: float) -> dict[str, Any]:
    x, y = (conditions[c]["ledger"]["generated_tokens"] for c in (a, b))
    apart = abs(x - y) / max(x, y, 1)
    verdict = f"{a} generated {x:,.0f} tokens in training, {b} {y:,.0f}: {100 * apart:.1f} % apart, tolerance {100 * tolerance:.0f} %"
    return {"matched": bool(apart <= tolerance), "tokens": verdict}
