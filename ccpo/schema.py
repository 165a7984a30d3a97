"""Table schemas with checked, atomic reading and writing: the only Parquet and artefact I/O of the
project.

Every Parquet file carries its schema's name and version; `read` refuses any other. Everything is
written under a temporary name, flushed to disk and renamed, so that a file that exists is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_I32 = pa.int32()
_I64 = pa.int64()
_F64 = pa.float64()
_STR = pa.string()
_BOOL = pa.bool_()

# name -> (version, columns). A column's order is the order on disk.
TABLES: dict[str, tuple[int, dict[str, pa.DataType]]] = {
    # One row per task of a benchmark.
    "tasks": (
        2,
        {
            "split": _STR,
            "task_id": _STR,
            "question": _STR,
            "truth": _STR,
            "kind": _STR,
            "tolerance": _F64,
            "origin": _STR,
        },
    ),
    # One row per (update, agent). Token and evaluator counts are cumulative over the team, up to
    # and including the update.
    "train": (
        3,
        {
            "step": _I32,
            "agent": _I32,
            "active": _BOOL,
            "reward": _F64,
            "credit": _F64,
            "advantage_sd": _F64,
            "role_information": _F64,
            # share of its ratings that could be read; 0 where none are asked for
            "rating_valid": _F64,
            # root mean squared error of the critic before it learnt from the update; 0 without one
            "critic_error": _F64,
            "loss": _F64,
            "grad_norm": _F64,
            "clip_fraction": _F64,
            "entropy": _F64,
            "logprob_gap": _F64,
            "message_tokens": _F64,
            "truncated": _F64,
            # share of its messages that are empty, since the prompt left no room in the context
            "no_room": _F64,
            "leakage": _F64,
            "generated_tokens": _I64,
            "evaluator_calls": _I64,
        },
    ),
    # One row per message of the updates that are kept. `removed` is the agent left out (-1:
    # factual).
    "credit": (
        1,
        {
            "step": _I32,
            "task_id": _STR,
            "message": _I32,
            "parent": _I32,
            "turn": _I32,
            "agent": _I32,
            "removed": _I32,
            "reward": _F64,
            "credit": _F64,
            "advantage": _F64,
            "answer": _STR,
            "text": _STR,
        },
    ),
    # Counted, never computed. One row per (update, agent, purpose); seconds are in `seconds`, since
    # they can never repeat.
    "ledger": (
        1,
        {
            "step": _I32,
            "agent": _I32,
            "purpose": _STR,
            "prompt_tokens": _I64,
            "generated_tokens": _I64,
            "trained_tokens": _I64,
            "evaluator_calls": _I64,
        },
    ),
    # Wall seconds of one update by part (rollout, verify, credit, update, refresh, save).
    "seconds": (1, {"step": _I32, "part": _STR, "seconds": _F64}),
    # One row per (update, policy that learnt, name): `gap`, largest difference of engine's and
    # trainer's log-probs of fixed messages after the update; `retokenized`, the share of messages
    # whose text has other tokens than were drawn; `ratio a..b`, shares of tokens by importance
    # ratio.
    "canary": (1, {"step": _I32, "policy": _I32, "name": _STR, "value": _F64}),
    # One row per message of the evaluation. `intervention`: a file of ccpo/intervention. `logprob`:
    # sum over the message's tokens at the temperature it was drawn with, at temperature 1 if
    # greedy.
    "rollouts": (
        2,
        {
            "benchmark": _STR,
            "task_id": _STR,
            "decoding": _STR,
            "sample": _I32,
            "intervention": _STR,
            "turn": _I32,
            "agent": _I32,
            "prompt": _STR,
            "completion": _STR,
            "n_prompt_tokens": _I32,
            "n_completion_tokens": _I32,
            "logprob": _F64,
            "finish_reason": _STR,
        },
    ),
    # One row per (family, shape, instance of a world, method, advantage, turn): error against
    # truth, see ccpo/oracle/diagnose.py.
    "diagnostics": (
        2,
        {
            "family": _STR,
            "shape": _STR,
            "instance": _I32,
            "method": _STR,
            "advantage": _STR,
            "turn": _I32,
            "batch_tasks": _I32,
            "scale": _F64,
            "bias": _F64,
            "bias_raw": _F64,
            "variance": _F64,
            "mse": _F64,
            "mse_tokens": _F64,
            "mse_calls": _F64,
            "advantage_sd": _F64,
            "spearman": _F64,
            "cosine": _F64,
            "norm_ratio": _F64,
            "batch_cosine": _F64,
            "team_cosine": _F64,
            "noise_tokens": _F64,
            "noise_calls": _F64,
            "outcome_correlation": _F64,
            "sampled_worst": _F64,
            "sampled_cells": _I32,
            "tokens": _F64,
            "evaluator_calls": _F64,
            "role_information": _F64,
        },
    ),
    # One row per factual (benchmark, task, decoding, sample) of teams whose last message answers,
    # for kinds of answers that the papers' graders were used on: our verdict and theirs
    # (ccpo/grade/paper_graders.py).
    "graders": (
        2,
        {
            "benchmark": _STR,
            "task_id": _STR,
            "decoding": _STR,
            "sample": _I32,
            "answer": _STR,
            "truth": _STR,
            "accuracy": _F64,
            "c3": _F64,
            "ccpo": _F64,
        },
    ),
    # One row per (benchmark, task, decoding, sample, intervention): the team's answer and its
    # verdict; tokens and log-probs of the messages that were drawn for it.
    "scores": (
        3,
        {
            "benchmark": _STR,
            "task_id": _STR,
            "decoding": _STR,
            "sample": _I32,
            "intervention": _STR,
            "answer": _STR,
            "truth": _STR,
            "accuracy": _F64,
            # of a program's tests that passed; for other kinds of answers as accuracy
            "fraction": _F64,
            "leakage": _F64,
            "n_tokens": _I32,
            "logprob": _F64,
        },
    ),
}


def sha256(path: str | Path) -> str:
    """Hex sha256 of a file, or of a folder (its sorted relative names and their hashes).

    Snakemake's time stamp in a folder is not counted: it is written after the job that made the
    folder has hashed it.
    """
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for item in _members(path):
            digest.update(f"{item.relative_to(path).as_posix()}\0{sha256(item)}\n".encode())
        return digest.hexdigest()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def manifest_of(folder: Path) -> Path:
    """Where the manifest of a folder lies: beside it, so that it is none of its files."""
    return folder.with_name(folder.name + ".manifest.json")


def write_manifest(folder: Path) -> None:
    """Writes the sha256 of each file of a folder beside it. Folders have times and no content that
    Snakemake could judge; this file stands for the content."""
    write_json(manifest_of(folder), _files(folder))


def check_manifest(folder: Path) -> None:
    """Compares a folder with its manifest, or with its part of the manifest of the folder above.
    Without either there is nothing to compare with.

    Raises:
        ValueError: a file was changed, removed or added since; names the first.
    """
    for whole, part in ((folder, ""), (folder.parent, f"{folder.name}/")):
        path = manifest_of(whole)
        if not path.is_file():
            continue
        recorded = {k: v for k, v in read_json(path).items() if k.startswith(part)}
        now = {part + name: digest for name, digest in _files(folder).items()}
        for name in sorted({*recorded, *now}):
            if recorded.get(name) != now.get(name):
                raise ValueError(
                    f"{whole / name} has sha256 {now.get(name, 'none (missing)')}, {path} "
                    f"recorded {recorded.get(name, 'none (no such file)')}. Remedy: restore the "
                    f"file; or delete {whole} and {path}, and run snakemake again to make them "
                    "anew."
                )


def check_touched_manifest(folder: Path) -> None:
    """As `check_manifest`, of a folder in which something is newer than its manifest: cheap enough
    for all folders of a study.

    Raises:
        ValueError: as `check_manifest`.
    """
    path = manifest_of(folder)
    if path.is_file() and folder.is_dir():
        made = path.stat().st_mtime_ns
        if any(item.stat().st_mtime_ns > made for item in _members(folder)):
            check_manifest(folder)


def _members(folder: Path) -> list[Path]:
    """Files of a folder but Snakemake's time stamp."""
    items = sorted(folder.rglob("*"))
    return [p for p in items if p.is_file() and p.name != ".snakemake_timestamp"]


def _files(folder: Path) -> dict[str, str]:
    return {item.relative_to(folder).as_posix(): sha256(item) for item in _members(folder)}


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes `data` under a temporary name beside `path`, flushes it to disk and renames it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """`write_bytes` in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: object) -> None:
    """Readable JSON, keys in the order given; a value that is not finite raises ValueError, since
    JSON has no word for it.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Reads JSON; a missing or cut-off file raises ValueError with its name and a remedy."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise ValueError(
            f"{path} does not exist. Remedy: run the rule that makes it (snakemake {path})."
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not JSON ({error}). Remedy: delete it and run snakemake again."
        ) from None


def _arrow_schema(name: str) -> pa.Schema:
    version, columns = TABLES[name]
    return pa.schema(
        [pa.field(c, t, nullable=False) for c, t in columns.items()],
        {"ccpo.schema": f"{name}/{version}"},
    )


def to_table(name: str, columns: Mapping[str, Any]) -> pa.Table:
    """Columns (sequences of equal length) as a checked table.

    Raises:
        ValueError: a column is missing, unknown, of another length, holds a null, or (except where
            stated) NaN or infinity.
    """
    schema = _arrow_schema(name)
    if set(columns) != set(schema.names):
        missing = set(schema.names) - set(columns)
        unknown = set(columns) - set(schema.names)
        raise ValueError(
            f"table {name}: missing columns {sorted(missing)}, unknown columns {sorted(unknown)}"
        )
    table = pa.table(
        {c: pa.array(columns[c], schema.field(c).type) for c in schema.names}, schema=schema
    )
    for column in schema.names:
        array = table.column(column)
        if array.null_count:
            raise ValueError(
                f"table {name}, column {column}: {array.null_count} nulls; every value must be "
                "given"
            )
        if pa.types.is_floating(array.type):
            values = array.to_numpy()
            bad = np.flatnonzero(~np.isfinite(values))
            if bad.size:
                raise ValueError(
                    f"table {name}, column {column}, row {bad[0]}: {values[bad[0]]} is not finite"
                )
    return table


def rows_to_table(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as a checked table; see `to_table`."""
    rows = list(rows)
    return to_table(name, {c: [row[c] for row in rows] for c in TABLES[name][1]})


def write_table(path: str | Path, table: pa.Table) -> None:
    """Writes a table made by `to_table`, atomically; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_bytes(path, sink.getvalue().to_pybytes())


def read_table(path: str | Path, name: str, columns: list[str] | None = None) -> pa.Table:
    """Reads a table and checks that it is `name` at the version this code knows.

    Raises:
        ValueError: the file is missing, not Parquet, or of another schema or version.
    """
    if not Path(path).is_file():
        raise ValueError(
            f"{path} does not exist. Remedy: run the rule that makes it (snakemake {path})."
        )
    want = f"{name}/{TABLES[name][0]}"
    try:
        metadata = pq.read_schema(path).metadata or {}
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{path} is not a whole Parquet file ({error}). Remedy: delete it and run snakemake "
            "again."
        ) from None
    have = metadata.get(b"ccpo.schema", b"no ccpo schema").decode()
    if have != want:
        raise ValueError(
            f"{path} holds {have}, this code reads {want}. Remedy: delete it and let snakemake "
            "make it anew."
        )
    return pq.read_table(path, columns=columns)


def foreign_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a Parquet file that somebody else wrote, its schema unchecked."""
    return pq.read_table(path).to_pylist()


def parquet_rows(path: str | Path) -> int:
    """Rows of any Parquet file, of whatever schema."""
    return int(pq.read_metadata(path).num_rows)
