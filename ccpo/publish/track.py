"""The import of an experiment's runs into MLflow. It never fails or holds up an experiment: what
goes wrong is a warning with the command that tries again.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from ccpo import lineage, manifest, schema
from ccpo.manifest import PlannedCondition
from ccpo.publish import statistics

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

PATIENCE = 10.0  # seconds after which a server is given up
SLOW = 60.0  # the same for a file on this machine, which is made and migrated at first
EACH = 1.0  # seconds more for each run that was imported: who needs more holds Snakemake up
BATCH = 1000  # metrics a request
METRICS = ("reward", "credit", "loss", "role_information", "grad_norm", "entropy", "clip_fraction")


@dataclass(frozen=True)
class Source:
    """What is imported, and where to."""

    experiment: Path
    runs: Path
    stats: Path
    uri: str

    def command(self, out: Path) -> str:
        """The command that imports it."""
        options = {
            "--experiment": self.experiment,
            "--runs": self.runs,
            "--stats": self.stats,
            "--uri": self.uri,
            "--out": out,
        }
        words = [word for name, value in options.items() for word in (name, str(value))]
        return shlex.join(["python", "-m", "ccpo", "track", *words])


def track(source: Source, out: Path) -> str:
    """Imports an experiment's runs into MLflow: parameters, per-update metrics, final accuracies.
    Running it again adds nothing. Writes the ids to `out`.

    Returns:
        "", or the warning: why nothing, or not all, was imported, and how to try again.
    """
    begun = lineage.hashed([source.experiment, source.stats])
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(int(PATIENCE)))
    patience = PATIENCE if source.uri.startswith("http") else SLOW
    ids: dict[str, str] = {}
    with contextlib.suppress(Exception):  # what is wrong with it the first step meets again
        import mlflow  # noqa: F401  its import takes seconds, which are not the server's

    problem = _changed(begun) or _watched(_steps(source, ids), patience)
    warning = (
        f"not all of {source.experiment} is in MLflow at {source.uri}: {problem}. The experiment "
        f"is whole without it. To try again: {source.command(out)}"
        if problem
        else ""
    )
    store = ids.pop("", None)
    record = {"uri": source.uri, "experiment_id": store, "runs": dict(ids)}
    schema.write_json(out, {**record, "warning": warning} if warning else record)
    lineage.write_passport(out, begun)
    return warning


def _changed(begun: lineage.Begun) -> str:
    """Why what is to be imported is not what was made, or ""."""
    try:
        for path, digest in begun.hashes.items():
            lineage.refuse_changed(path, digest)
    except ValueError as error:
        return str(error)
    return ""


def _watched(steps: Iterator[None], patience: float) -> str:
    """Takes steps, of which each is one more run imported, in a thread of their own until they end,
    one fails, or they take longer than `patience` seconds and EACH for each step; returns what went
    wrong, or "".
    """
    reports: queue.Queue[str | None] = queue.Queue()

    def work() -> None:
        try:
            for _ in steps:
                reports.put(None)
            reports.put("")
        except Exception as error:  # whatever a client or a server comes up with
            reports.put(f"{type(error).__name__}: {error}".splitlines()[0])

    threading.Thread(target=work, daemon=True).start()
    deadline = time.monotonic() + patience
    while True:
        try:
            report = reports.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return f"it was not done in {patience:g} seconds and {EACH:g} for each run imported"
        if report is not None:
            return report
        deadline += EACH


def _steps(source: Source, ids: dict[str, str]) -> Iterator[None]:
    """The import, a step for each run; puts the ids of runs, and under "" that of the experiment,
    into `ids`.

    Raises:
        ValueError: a run is not there; all others are imported before.
    """
    from mlflow.tracking import MlflowClient

    planned = manifest.read_training(source.experiment)
    numbers = statistics.read_training(source.stats)
    if source.uri.startswith("sqlite:///"):
        Path(source.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(source.uri)
    store = _store(client, planned.experiment)
    ids[""] = store
    missing = []
    for condition in planned.conditions:
        for seed, run in condition.runs.items():
            folder = source.runs / run
            scores = planned.primary.folder(folder) / "scores.parquet"
            tables = [folder / "train.parquet", scores]
            if not all(path.is_file() for path in tables):
                missing.append(run)
                continue
            digest = "".join(schema.sha256(path) for path in tables)
            known = client.search_runs(
                [store], f"tags.`ccpo.run` = '{run}' and tags.`ccpo.digest` = '{digest}'"
            )
            if known:
                ids[run] = known[0].info.run_id
            else:
                accuracy = numbers.conditions[condition.label].accuracy
                metrics = [*_of_training(source.runs / run), *_final(accuracy, seed)]
                ids[run] = _import(client, store, _Run(condition, seed, digest), metrics)
            yield
    if missing:
        raise ValueError(f"{len(missing)} of its runs are not there ({', '.join(missing)})")


def _store(client: MlflowClient, name: str) -> str:
    """MLflow's id of the experiment, which is made where there is none.

    Raises:
        ValueError: it was deleted there.
    """
    held = client.get_experiment_by_name(name)
    if held is None:
        return str(client.create_experiment(name))
    if held.lifecycle_stage != "active":
        raise ValueError(
            f"its experiment {name} was deleted there; `mlflow experiments restore "
            f"--experiment-id {held.experiment_id}` brings it back"
        )
    return str(held.experiment_id)


@dataclass(frozen=True)
class _Run:
    condition: PlannedCondition
    seed: int
    digest: str


def _import(client: MlflowClient, store: str, run: _Run, metrics: list[Metric]) -> str:
    """One run: the digest tag is set last, so that a run left half imported is imported again."""
    from mlflow.entities import Param

    label = run.condition.label
    tags = {"ccpo.run": run.condition.runs[run.seed], "ccpo.condition": label}
    record = client.create_run(store, run_name=f"{label} s{run.seed}", tags=tags)
    key = str(record.info.run_id)
    flat = {"seed": run.seed, **_flat(run.condition.config)}
    client.log_batch(key, params=[Param(k, str(v)[:500]) for k, v in flat.items()])
    for start in range(0, len(metrics), BATCH):
        client.log_batch(key, metrics=metrics[start : start + BATCH])
    client.set_tag(key, "ccpo.digest", run.digest)
    client.set_terminated(key)
    return key


def _of_training(folder: Path) -> Iterator[Metric]:
    from mlflow.entities import Metric

    for row in schema.read_table(folder / "train.parquet", "train").to_pylist():
        for name in METRICS:
            yield Metric(f"agent{row['agent']}/{name}", row[name], 0, row["step"])
        if row["agent"] == 0:
            yield Metric("generated_tokens", row["generated_tokens"], 0, row["step"])


def _final(
    accuracy: Mapping[str, Mapping[str, Mapping[str, statistics.Accuracy]]], seed: int
) -> Iterator[Metric]:
    from mlflow.entities import Metric

    for benchmark, decodings in accuracy.items():
        for decoding, kinds in decodings.items():
            for kind, row in kinds.items():
                if seed in row.by_seed:
                    yield Metric(f"{benchmark}/{decoding}/{kind}", row.by_seed[seed], 0, 0)


def _flat(value: Mapping[str, JsonValue], prefix: str = "") -> dict[str, JsonValue]:
    out: dict[str, JsonValue] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            out |= _flat(item, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = item
    return out
