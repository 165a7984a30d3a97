"""Computes again what needs models: plays evaluations (`deep`), trains runs (`train`); says what
comes out otherwise, and what of machine, threads and versions was another.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ccpo import files, lineage, schema, source
from ccpo.audit.contents import TABLES, Audited, ExperimentFolder
from ccpo.audit.findings import Failure
from ccpo.config import read_protocol, read_run, tasks_slug
from ccpo.evaluate import evaluate
from ccpo.evaluate.parts import Sources
from ccpo.lineage import Provenance
from ccpo.manifest import TrainingManifest

NEVER_AGAIN = ("seconds.parquet",)  # what a clock says


def deep(experiment: ExperimentFolder, audited: Audited) -> None:
    """Plays every evaluation of an experiment again, and compares the rollouts row by row."""
    if not isinstance(experiment.planned, TrainingManifest):
        return
    for _, _, run in experiment.run_folders():
        record = audited.records.runs.get(run)
        if record is None:
            continue  # named as missing
        why = "; ".join(_otherwise(record))
        for protocol in experiment.planned.protocols:
            path = protocol.folder(run) / "rollouts.parquet"
            if path.is_file():
                _played(run, experiment.results / "protocols" / f"{protocol.id}.json", why, audited)


def _played(run: Path, protocol: Path, why: str, audited: Audited) -> None:
    """One evaluation."""
    config = read_run(run / "config.json")
    results = run.parent.parent
    tables = results / "tasks"
    choices = read_protocol(protocol).benchmarks(config)
    sources = Sources(
        config=run / "config.json",
        provenance=run / lineage.PROVENANCE,
        protocol=protocol,
        trained_on=tables / f"{tasks_slug(config.benchmark)}.parquet",
        tasks=tuple(tables / f"{tasks_slug(choice)}.parquet" for choice in choices),
        model=run / "model",
        untrained=tuple(results / "models" / model.slug for model in config.models),
    )
    path = run / "eval" / protocol.stem / "rollouts.parquet"
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "eval" / protocol.stem / path.name
        evaluate.rollout(sources, scratch=Path(scratch) / "kept", out=out)
        made = schema.read_table(out, "rollouts")
        held = schema.read_table(path, "rollouts")
    if made.equals(held):
        audited.findings.passed("replay", len(held))
        return
    rows = zip(made.to_pylist(), held.to_pylist(), strict=False)
    at = next((i for i, (a, b) in enumerate(rows) if a != b), min(len(made), len(held)))
    audited.findings.failed(
        Failure(
            "replay",
            f"{path}, row {at} of {len(held):,}",
            str(made.slice(at, 1).to_pylist()),
            str(held.slice(at, 1).to_pylist()),
            f"{_restore(path, audited)}. Machine: {why or 'as it was recorded'}",
        )
    )


def train(run: Path, audited: Audited) -> None:
    """Trains a run again as its provenance says, and compares what comes out byte for byte.

    Raises:
        ValueError: it is no run's folder, or several processes trained it.
    """
    record = lineage.read_provenance(run)
    if record.trained.ranks.world > 1:
        raise ValueError(
            f"audit: {run} was trained by {record.trained.ranks.world} processes, which is not "
            "done again here. Remedy: launch ccpo train as its log says, and --diff the two"
        )
    audited.records.follow(run / "train.parquet")
    audited.records.check()
    why = "; ".join(_otherwise(record)) or "as it was recorded, all of it"
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        _trained(run, record, out)
        for name, digest in record.outputs.items():
            if name in NEVER_AGAIN:
                continue
            actual = files.sha256(out / name)
            remedy = f"{_restore(run / name, audited)}. Code, machine and packages: {why}"
            audited.findings.compare("replay", run / name, actual, digest, remedy)
    audited.findings.unasked_for(", ".join(NEVER_AGAIN), "no clock says the same again")


def _trained(run: Path, record: Provenance, out: Path) -> None:
    """The training, in a process of its own with the threads and kernels that it had."""
    config = read_run(run / "config.json")
    results = run.parent.parent
    table = results / "tasks" / f"{tasks_slug(config.benchmark)}.parquet"
    models = [str(results / "models" / model.slug) for model in config.models]
    options = {
        "--config": [str(run / "config.json")],
        "--tasks": [str(table)],
        "--model": models,
        "--scratch": [str(out.parent / "scratch")],
        "--out": [str(out)],
    }
    if any(name.endswith(".held_out.json") for name in record.inputs):
        options["--held-out"] = [str(table.with_suffix(".held_out.json"))]
    words = [word for option, values in options.items() for word in (option, *values)]
    done = subprocess.run(
        [sys.executable, "-m", "ccpo", "train", *words],
        env={
            **os.environ,
            "PYTHONPATH": str(source.PACKAGE.parent),
            **record.machine.hardware.kernels.switches,
            "OMP_NUM_THREADS": str(record.trained.threads),
        },
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ValueError(f"audit: {run} cannot be trained again: {last}")


def _otherwise(record: Provenance) -> Iterator[str]:
    """What is here otherwise than where a run was trained, of what may break bits."""
    import torch

    then = record.machine
    now = lineage.hardware()
    code = source.source()
    pairs = {
        "processor": (then.hardware.processor, now.processor),
        "kernels": (then.hardware.kernels.torch, torch.backends.cpu.get_cpu_capability()),
        "GPUs": (then.hardware.gpus, now.gpus),
        "threads": (record.trained.threads, int(os.environ.get("OMP_NUM_THREADS", "1"))),
        "code": (then.source.code or then.source.commit, code.code),
        "Python": (then.source.python, code.python),
    }
    for name in sorted({*then.source.versions, *code.versions} - {"ccpo"}):
        pairs[name] = (then.source.versions.get(name), code.versions.get(name))
    for name, (was, now_is) in pairs.items():
        if was != now_is:
            yield f"{name} was {was}, is {now_is}"


def _restore(path: Path, audited: Audited) -> str:
    record = path.parent / lineage.PROVENANCE if path.name in _OWN else lineage.passport_of(path)
    return audited.records.remedy(path, record)


_OWN = {"model", *(f"{table}.parquet" for table in TABLES)}
