"""The import of an experiment's runs into MLflow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ccpo import lineage, schema


def track(*, experiment: Path, runs: Path, stats: Path, uri: str, out: Path) -> None:
    """Imports an experiment's runs into MLflow: parameters, per-update metrics, final accuracies.
    Running it again adds nothing.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    import mlflow
    from mlflow.tracking import MlflowClient

    manifest = schema.read_json(experiment)
    numbers = schema.read_json(stats)
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    found = client.get_experiment_by_name(manifest["experiment"])
    store = found.experiment_id if found else client.create_experiment(manifest["experiment"])
    ids = {}
    for label, condition in manifest["conditions"].items():
        for seed, run in condition["runs"].items():
            digest = schema.sha256(runs / run / "train.parquet") + schema.sha256(
                runs / run / "eval" / manifest["protocols"][0]["id"] / "scores.parquet"
            )
            known = client.search_runs(
                [store], f"tags.`ccpo.run` = '{run}' and tags.`ccpo.digest` = '{digest}'"
            )
            ids[run] = (
                known[0].info.run_id
                if known
                else _import(
                    client, store, label, seed, run, runs / run, digest, condition, numbers
                )
            )
    schema.write_json(out, {"uri": uri, "experiment_id": store, "runs": ids})
    lineage.write_passport(out, [experiment, stats])


def _import(
    client: Any,
    store: str,
    label: str,
    seed: str,
    run: str,
    folder: Path,
    digest: str,
    condition: dict[str, Any],
    numbers: dict[str, Any],
) -> str:
    """One run: the digest tag is set last, so that a run left half imported is imported again."""
    from mlflow.entities import Metric, Param

    record = client.create_run(
        store, run_name=f"{label} s{seed}", tags={"ccpo.run": run, "ccpo.condition": label}
    )
    key = record.info.run_id
    flat = {"seed": seed, **_flat(condition["config"])}
    rows = schema.read_table(folder / "train.parquet", "train").to_pylist()
    names = (
        "reward",
        "credit",
        "loss",
        "role_information",
        "grad_norm",
        "entropy",
        "clip_fraction",
    )
    metrics = [Metric(f"agent{r['agent']}/{n}", r[n], 0, r["step"]) for r in rows for n in names]
    metrics += [
        Metric("generated_tokens", r["generated_tokens"], 0, r["step"])
        for r in rows
        if r["agent"] == 0
    ]
    for benchmark, decodings in numbers["conditions"][label]["accuracy"].items():
        for decoding, kinds in decodings.items():
            metrics += [
                Metric(f"{benchmark}/{decoding}/{kind}", row["by_seed"][seed], 0, 0)
                for kind, row in kinds.items()
            ]
    client.log_batch(key, params=[Param(k, str(v)[:500]) for k, v in flat.items()])
    for start in range(0, len(metrics), 1000):
        client.log_batch(key, metrics=metrics[start : start + 1000])
    client.set_tag(key, "ccpo.digest", digest)
    client.set_terminated(key)
    return str(key)


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, item in value.items():
        out |= (
            _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
        )
    return out
